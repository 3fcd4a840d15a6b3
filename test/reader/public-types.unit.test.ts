import { expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import type {
  Entry,
  Epoch,
  ErrorDetails,
  Freshness,
  IndexManifest,
  Key,
  Manifest,
  open,
  Pin,
  PinOptions,
  Reader,
  ReaderEvents,
  ReaderOptions,
  ReadOptions,
  SnapflipError,
  VersionRef,
} from '../../src/index.ts'
import { atLeast } from '../../src/index.ts'

interface Product {
  title: string
}
type Shop = { products: Product }

/** Checked by the compiler alone: every type in a public signature has a name that the package exports. */
test('what the package takes and returns can be named with what it exports', () => {
  expectTypeOf<typeof open<Shop>>().parameters.toEqualTypeOf<
    [url: string | readonly string[], dataset: string, options?: ReaderOptions<Shop> | undefined]
  >()
  expectTypeOf<typeof open<Shop>>().returns.resolves.toEqualTypeOf<Reader<Shop>>()

  type Answers = Reader<Shop>
  expectTypeOf<Answers['version']>().toEqualTypeOf<VersionRef>()
  expectTypeOf<Answers['manifest']>().toEqualTypeOf<Manifest>()
  expectTypeOf<Answers['manifest']['indexes'][string]>().toEqualTypeOf<IndexManifest>()
  expectTypeOf<Answers['pin']>().parameters.toEqualTypeOf<[options?: PinOptions | undefined]>()
  expectTypeOf<Answers['pin']>().returns.resolves.toEqualTypeOf<Pin<Shop>>()
  expectTypeOf<Pin<Shop>['version']>().toEqualTypeOf<VersionRef>()
  expectTypeOf<Pin<Shop>['manifest']>().toEqualTypeOf<Manifest>()

  expectTypeOf<Answers['get']>().toBeCallableWith('products', 1, { fresh: 'any' })
  expectTypeOf<Answers['get']>().parameter(1).toEqualTypeOf<Key>()
  expectTypeOf<Answers['get']>().parameter(2).toEqualTypeOf<ReadOptions | undefined>()
  expectTypeOf<Answers['get']>().returns.resolves.toEqualTypeOf<Product | undefined>()
  expectTypeOf<Answers['getEntry']>().returns.resolves.toEqualTypeOf<Entry<Product | undefined>>()
  expectTypeOf<Entry<Product>['version']>().toEqualTypeOf<VersionRef>()

  const version: VersionRef = { tag: 'v20260518-01', ordinal: 1, digest: '', manifest: '' }
  expectTypeOf(atLeast(version)).toEqualTypeOf<Freshness>()

  expectTypeOf<Answers['on']>().parameter(0).toEqualTypeOf<keyof ReaderEvents>()
  expectTypeOf<ReaderEvents['flip']>().toEqualTypeOf<
    [{ from: VersionRef | null; to: VersionRef; epoch: Epoch; store: string }]
  >()
  expectTypeOf<SnapflipError['details']>().toEqualTypeOf<ErrorDetails>()
})

test('an index that a reader did not declare does not compile, nor a schema of another type', () => {
  type Get = Reader<Shop>['get']
  expectTypeOf<Parameters<Get>[0]>().toEqualTypeOf<'products'>()
  const options: ReaderOptions<Shop> = { schemas: { products: z.object({ title: z.string() }) } }
  // @ts-expect-error a schema of numbers types no products
  const other: ReaderOptions<Shop> = { schemas: { products: z.number() } }
  expectTypeOf(options).toEqualTypeOf(other)
})
