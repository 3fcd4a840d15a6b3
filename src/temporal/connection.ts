import { type ClientConnectConfig, loadClientConnectConfig } from '@temporalio/envconfig'
import type { NativeConnectionOptions } from '@temporalio/worker'
import type { Config } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'

export interface TemporalTarget {
  /** As `connection` has it; for people. */
  address: string
  namespace: string
  connection: NativeConnectionOptions
}

/**
 * How to reach Temporal, for clients and workers alike. A profile's values (Temporal's environment configuration) come first.
 *
 * @throws SnapflipError CONFIG_INVALID for a profile that is not there or cannot be read.
 */
export function temporalTarget(temporal: Config['temporal']): TemporalTarget {
  const profile = temporal.profile === undefined ? null : loadProfile(temporal.profile)
  const tls = temporal.tls ?? (temporal.apiKey === undefined ? undefined : true)
  const address = profile?.connectionOptions.address ?? temporal.address
  return {
    address,
    namespace: profile?.namespace ?? temporal.namespace,
    connection: {
      ...(temporal.apiKey === undefined ? {} : { apiKey: temporal.apiKey }),
      ...(tls === undefined ? {} : { tls: tls as NonNullable<NativeConnectionOptions['tls']> }),
      ...profile?.connectionOptions,
      address,
    },
  }
}

function loadProfile(profile: string): ClientConnectConfig {
  try {
    return loadClientConnectConfig({ profile })
  } catch (error) {
    // The first line alone: the others quote the file, and with it an API key.
    const [found] = (error instanceof Error ? error.message : String(error)).split('\n')
    const file =
      process.env.TEMPORAL_CONFIG_FILE ?? "Temporal's own configuration file (TEMPORAL_CONFIG_FILE is not set)"
    throw new SnapflipError(
      'CONFIG_INVALID',
      `temporal.profile: expected the profile ${JSON.stringify(profile)} in ${file}, found: ${found}. Correct the name, or add it there (\`temporal config set --profile ${profile}\`).`,
      { profile },
      error,
    )
  }
}
