import { z } from 'zod'
import { urlProblem } from './outbound-url.ts'

/** What every signed webhook of a definition has; how it is sent is told in docs/alerts.md. */

/** A secret is named in the definition, never written into it. */
export const variable = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable (letters, digits and _)')

const host = z
  .string()
  .regex(/^([a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:]+\])$/i, 'expected a host name or address, without port or path')
  .toLowerCase()

/** Hosts, as the URL names them, to which http and addresses that are not public are allowed. */
export const allowHosts = z.array(host).default([])

export const webhookShape = {
  url: z.string(),
  /** Environment variable with the secret that requests are signed with. */
  secretEnv: variable,
  allowHosts,
}

/** Refuses a URL that nothing would be sent to. */
export function refuseUrl(
  { url, allowHosts }: { url: string; allowHosts: readonly string[] },
  context: z.RefinementCtx,
): void {
  const message = urlProblem(url, allowHosts)
  if (message !== null) context.addIssue({ code: 'custom', path: ['url'], message, input: url })
}
