import ipaddr from 'ipaddr.js'

/**
 * Where snapflip may send something on its own: to https, at a public address. A host that is named explicitly may be anything else: then
 * whoever wrote the definition has said so.
 */

/** Addresses anyone can reach, and nothing else: IPv4 within IPv6 is judged as IPv4, and what tunnels or translates is refused. */
export function isPublicAddress(address: string): boolean {
  return ipaddr.isValid(address) && ipaddr.process(address).range() === 'unicast'
}

/**
 * What is against this URL, as "expected …"; null when nothing is. An address in it is judged as URLs are read: `127.1`, `0x7f000001` and
 * `[::ffff:127.0.0.1]` are all 127.0.0.1. A name is judged by what it resolves to, when something is sent.
 *
 * @param allowHosts as `URL.hostname` gives them.
 */
export function urlProblem(text: string, allowHosts: readonly string[]): string | null {
  if (!URL.canParse(text)) return 'expected a URL'
  const { protocol, hostname, username, password } = new URL(text)
  if (username !== '' || password !== '') return 'expected a URL without user and password'
  if (protocol !== 'https:' && protocol !== 'http:') return 'expected an https URL'
  if (allowHosts.includes(hostname)) return null
  if (protocol === 'http:') return 'expected an https URL (http only where allowHosts names the host)'
  const address = hostname.replace(/^\[(.*)\]$/, '$1')
  if (ipaddr.isValid(address) && !isPublicAddress(address))
    return 'expected a public address (another only where allowHosts names it)'
  return null
}
