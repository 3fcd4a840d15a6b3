import type { OpenRefresh } from '../registry/open-refresh-of.ts'

/** The policy version and the snapflip that a refresh ran under; null where that is not known. */
export function ranUnder(refresh: OpenRefresh | null): string | null {
  if (refresh === null || refresh.policyNumber === null) return null
  const { policyNumber, policyDigest, snapflipVersion } = refresh
  return `policy ${policyNumber} (${policyDigest}), snapflip ${snapflipVersion}`
}
