import { afterEach } from 'vitest'

const closing: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** Closed after the test, last first. */
export function kept<C extends { close(): Promise<unknown> }>(closable: C): C {
  closing.push(() => closable.close())
  return closable
}
