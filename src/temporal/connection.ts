import { loadClientConnectConfig } from '@temporalio/envconfig'
import type { NativeConnectionOptions } from '@temporalio/worker'
import type { Config } from '../../schemas/config.ts'

/** How to reach Temporal, for clients and workers alike. A profile's values (Temporal's environment configuration) come first. */
export function temporalTarget(temporal: Config['temporal']): {
  connection: NativeConnectionOptions
  namespace: string
} {
  const profile = temporal.profile === undefined ? null : loadClientConnectConfig({ profile: temporal.profile })
  const tls = temporal.tls ?? (temporal.apiKey === undefined ? undefined : true)
  return {
    connection: {
      address: temporal.address,
      ...(temporal.apiKey === undefined ? {} : { apiKey: temporal.apiKey }),
      ...(tls === undefined ? {} : { tls: tls as NonNullable<NativeConnectionOptions['tls']> }),
      ...profile?.connectionOptions,
    },
    namespace: profile?.namespace ?? temporal.namespace,
  }
}
