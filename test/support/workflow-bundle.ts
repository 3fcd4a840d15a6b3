import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundleWorkflowCode } from '@temporalio/worker'
import { testFolder } from './services.ts'

const SOURCE = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url))
const silent = { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error() {} }

let bundled: Promise<string> | undefined

/** The workflows, bundled once a test file instead of once a worker, in a file that worker processes can load too. */
export function workflowBundle(): Promise<string> {
  bundled ??= bundle(SOURCE)
  return bundled
}

/** Bundles the workflows that a module exports. */
export async function bundle(workflowsPath: string): Promise<string> {
  const { code } = await bundleWorkflowCode({ workflowsPath, logger: silent })
  const codePath = join((await testFolder()).path, 'workflow-bundle.js')
  await writeFile(codePath, code)
  return codePath
}
