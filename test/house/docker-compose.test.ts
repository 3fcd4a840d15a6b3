import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'

const root = join(import.meta.dirname, '../..')

// schema/compose-spec.json of github.com/compose-spec/compose-spec at 170098ba07d9 (Apache-2.0), unchanged.
const schema = JSON.parse(readFileSync(join(root, 'test/support/compose-spec.json'), 'utf8')) as object

type Service = {
  image?: string
  build?: unknown
  restart?: string
  healthcheck?: unknown
  depends_on?: Record<string, { condition: string }>
  volumes?: (string | { type: string })[]
}
type Compose = { services: Record<string, Service>; volumes: Record<string, unknown> }

describe('docker-compose.yml', () => {
  let compose: Compose
  let services: [string, Service][]
  beforeAll(() => {
    compose = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true }) as Compose
    services = Object.entries(compose.services)
  })

  test('is a valid compose file', () => {
    expect(problemsOf(compose)).toEqual([])
  })

  test('would not be valid with a misspelt key', () => {
    const { healthcheck, ...redis } = compose.services.redis as Service
    const misspelt = { ...compose, services: { ...compose.services, redis: { ...redis, healthchek: healthcheck } } }
    expect(problemsOf(misspelt)).not.toEqual([])
  })

  test('gives every service that snapflip uses, and a worker', () => {
    expect(Object.keys(compose.services)).toEqual(
      expect.arrayContaining(['postgres', 'redis', 's3', 'temporal', 'worker']),
    )
    expect(services.some(([, service]) => service.build !== undefined)).toBe(true)
    expect(existsSync(join(root, 'Dockerfile'))).toBe(true)
  })

  test('pins every image to an exact version', () => {
    const loose = services.filter(
      ([, { image }]) => image !== 'snapflip:local' && !/:v?\d+\.\d+(\.\d+)?(-[a-z]+)?$/.test(image ?? ''),
    )
    expect(loose).toEqual([])
  })

  test('checks the health of everything that keeps running', () => {
    const unchecked = services.filter(([, service]) => service.healthcheck === undefined && service.restart !== 'no')
    expect(unchecked.map(([name]) => name)).toEqual([])
  })

  test("asks for the worker's own sign of life, not for the health of datasets", () => {
    const check = JSON.stringify((compose.services.worker as Service).healthcheck)
    expect(check).toContain('/tmp/snapflip/alive')
    expect(check).not.toContain('doctor')
  })

  test('starts nothing before what it needs is healthy', () => {
    for (const [name, { depends_on = {} }] of services) {
      for (const [needed, { condition }] of Object.entries(depends_on)) {
        const endsByItself = compose.services[needed]?.restart === 'no'
        expect([name, needed, condition]).toEqual([
          name,
          needed,
          endsByItself ? 'service_completed_successfully' : 'service_healthy',
        ])
      }
    }
  })

  test('keeps what the services store in volumes of its own', () => {
    const used = services.flatMap(([, { volumes = [] }]) =>
      volumes.filter((volume) => typeof volume === 'string').map((volume) => volume.split(':')[0]),
    )
    expect(used.sort()).toEqual(Object.keys(compose.volumes).sort())
  })
})

function problemsOf(compose: unknown): unknown[] {
  // The schema's formats (ports, durations) are Compose's own; Compose itself checks them later.
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true })
  // It names its draft by another spelling of the address that ajv knows.
  const validate = ajv.compile({ ...schema, $schema: 'http://json-schema.org/draft-07/schema#' })
  return validate(compose) ? [] : (validate.errors ?? [])
}
