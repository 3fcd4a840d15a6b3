import { type DestinationStream, type Logger, pino } from 'pino'

export type { Logger }

/** Structured logs, one line a step. Row contents and credentials never go in: the redaction is the second line of defence, not the first. */
export function createLog(options: { level?: string; destination?: DestinationStream } = {}): Logger {
  return pino(
    {
      name: 'snapflip',
      level: options.level ?? process.env.SNAPFLIP_LOG_LEVEL ?? 'info',
      redact: { paths: ['*.password', '*.connectionString', '*.secretAccessKey', '*.apiKey'], censor: '[redacted]' },
    },
    options.destination ?? pino.destination(2),
  )
}
