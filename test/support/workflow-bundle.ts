import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundleWorkflowCode } from '@temporalio/worker'

const SOURCE = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url))
const silent = { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error() {} }

/** Bundles the workflows into a file of `folder`, which worker processes can load too. Returns its path. */
export async function bundleWorkflows(folder: string): Promise<string> {
  const { code } = await bundleWorkflowCode({ workflowsPath: SOURCE, logger: silent })
  const codePath = join(folder, 'workflow-bundle.js')
  await writeFile(codePath, code)
  return codePath
}
