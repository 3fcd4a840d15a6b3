import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where the repository's scripts put the binaries they build, relative to the working folder. */
const TOOLS_FOLDER = join('.tools', 'bin')

/** The path of an executable on PATH or in `.tools/bin` of the working folder, or undefined. */
export function findBinary(name: string, env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folders = [
    ...(env.PATH ?? '').split(delimiter).filter((folder) => folder !== ''),
    join(process.cwd(), TOOLS_FOLDER),
  ]
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

/**
 * As `findBinary`, but a missing binary is an error that says how to get it.
 *
 * @throws Error with `howToGet`.
 */
export function requireBinary(name: string, howToGet: string): string {
  const path = findBinary(name)
  if (path === undefined) throw new Error(`Expected ${name} on PATH or in ${TOOLS_FOLDER}, found neither. ${howToGet}`)
  return path
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
