import { defineConfig } from 'vitest/config'

/** The recorder runs on the services of the tests, and is none: `npm test` must not write. */
export default defineConfig({
  test: {
    include: ['test/workflows/record-histories.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/setup-file.ts'],
    testTimeout: 300_000,
    hookTimeout: 120_000,
  },
})
