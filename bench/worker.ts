import { readFile } from 'node:fs/promises'
import { configSchema } from '../schemas/config.ts'
import { createLog } from '../src/observe/log.ts'
import { quietTemporalRuntime, startWorker } from '../src/worker.ts'

/** A worker in a process of its own, so that its memory is its own: `node bench/worker.ts CONFIG.json WORK_DIR WORKFLOW_BUNDLE`. */
const [config = '', workDir = '', workflowBundle = ''] = process.argv.slice(2)
const log = createLog()
quietTemporalRuntime(log)
const worker = await startWorker(configSchema.parse(JSON.parse(await readFile(config, 'utf8'))), {
  log,
  workDir,
  workflowBundle,
})
process.send?.('polling')
await worker.run
