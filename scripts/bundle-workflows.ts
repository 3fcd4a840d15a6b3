import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundleWorkflowCode } from '@temporalio/worker'

/**
 * Bundles the workflows once, so that no worker needs webpack when it starts (about 3 s and 200 MB): `node scripts/bundle-workflows.ts FILE`.
 */
const [file] = process.argv.slice(2)
if (file === undefined) throw new Error('Expected the file to write the bundle to, found no argument.')
const { code } = await bundleWorkflowCode({
  workflowsPath: fileURLToPath(new URL('../workflows/index.ts', import.meta.url)),
  logger: {
    log: () => undefined,
    trace: () => undefined,
    debug: () => undefined,
    info: () => undefined,
    warn: (message) => process.stderr.write(`${message}\n`),
    error: (message) => process.stderr.write(`${message}\n`),
  },
})
await mkdir(dirname(file), { recursive: true })
await writeFile(file, code)
