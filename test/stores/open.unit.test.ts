import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { openStore } from '../../src/stores/open.ts'

describe('opening a store by URL', () => {
  it.each([
    ['no scheme', '/srv/versions', /has no scheme, expected redis:/],
    ['an unknown scheme', 'ftp://host/path', /has the scheme ftp:, expected redis:/],
    ['a Redis path that is no database', 'redis://host/shop', /path "\/shop", expected redis:/],
    [
      'a Redis option that is unknown',
      'redis://host?prefixx=a',
      /option "prefixx", expected one of prefix, waitReplicas/,
    ],
    [
      'a Redis prefix that would move keys to other slots',
      'redis://host?prefix=%7Ba%7D',
      /prefix is "{a}", expected up to 64/,
    ],
    [
      'a number that is none',
      'redis://host?waitReplicas=some',
      /waitReplicas of a store URL is "some", expected a whole number/,
    ],
    [
      'a certificate that is not there',
      'rediss://host?tlsCa=/nowhere/ca.pem',
      /tlsCa names \/nowhere\/ca.pem, expected a readable/,
    ],
    ['no bucket', 's3:///prefix', /has no bucket, expected s3:/],
    ['credentials in an S3 URL', 's3://key:secret@bucket/', /holds credentials, expected none/],
    ['an S3 endpoint that is none', 's3://bucket/?endpoint=localhost', /Endpoint .* does not parse, expected http:/],
  ])('names what was expected: %s', async (_title, url, message) => {
    const error = await openStore(url, { dataset: 'shop' }).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringMatching(message) })
    expect(String(error)).not.toContain('secret')
  })

  it('shows a URL without credentials', async () => {
    const redis = await openStore('redis://user:secret@host:7000/3?prefix=p&waitReplicas=1', { dataset: 'shop' })
    expect(redis.url).toBe('redis://host:7000/3?prefix=p')
    const s3 = await openStore('s3://bucket/a/b/?region=eu-central-1', { dataset: 'shop' })
    expect(s3.url).toBe('s3://bucket/a/b')
    await Promise.all([redis.close(), s3.close()])
  })

  it('loads only the driver that is needed', async () => {
    const program = `
      const { openStore } = await import(${JSON.stringify(new URL('../../src/stores/open.ts', import.meta.url).href)})
      const store = await openStore('file:./nowhere', { dataset: 'shop' })
      await store.close()
      const loaded = Object.keys((await import('node:module')).createRequire(import.meta.url).cache)
      console.log(JSON.stringify(loaded.filter((path) => /ioredis|aws-sdk/.test(path))))`
    const args = [
      '--input-type=module',
      '--experimental-strip-types',
      '--disable-warning=ExperimentalWarning',
      '-e',
      program,
    ]
    const { stdout } = await promisify(execFile)(process.execPath, args)
    expect(JSON.parse(stdout)).toEqual([])
  })
})

it('two names of this machine are one store in Redis', async () => {
  const urls = await Promise.all(
    ['localhost', '127.0.0.1'].map(async (host) => {
      const store = await openStore(`redis://${host}:6379/0`, { dataset: 'shop' })
      await store.close()
      return store.url
    }),
  )
  expect(urls[0]).toBe(urls[1])
})
