import { existsSync, readFileSync } from 'node:fs'

const OWN = ownPackage()

/** Of the package.json next above: the checkout's, or the installed package's above dist. */
export const PACKAGE_VERSION = OWN.version

/** How to install packages that only some need, in the versions that this one works with: newer ones may have another interface. */
export function npmInstall(names: string[]): string {
  return `npm install ${names.map((name) => `${name}@${OWN.peerDependencies[name]}`).join(' ')}`
}

function ownPackage(): { version: string; peerDependencies: Record<string, string> } {
  for (let folder = new URL('.', import.meta.url); ; folder = new URL('..', folder)) {
    const file = new URL('package.json', folder)
    if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8'))
    if (folder.pathname === '/') return { version: 'unknown', peerDependencies: {} }
  }
}
