/** Whether TLS found something wrong with the server's certificate: DEPTH_ZERO_SELF_SIGNED_CERT, ERR_TLS_CERT_ALTNAME_INVALID and others of Node's codes. */
export function isCertificateFault(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /CERT|UNABLE_TO_VERIFY/.test(String(error.code))
}
