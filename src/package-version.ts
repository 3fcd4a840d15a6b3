import { existsSync, readFileSync } from 'node:fs'

/** Of the package.json next above: the checkout's, or the installed package's above dist. */
export const PACKAGE_VERSION = packageVersion()

function packageVersion(): string {
  for (let folder = new URL('.', import.meta.url); ; folder = new URL('..', folder)) {
    const file = new URL('package.json', folder)
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
    if (folder.pathname === '/') return 'unknown'
  }
}
