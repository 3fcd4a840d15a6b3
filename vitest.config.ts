import { defineConfig } from 'vitest/config'

/** These need no service; every other test may ask for any of them (test/support/services.ts). */
const unitTests = ['test/{core,schemas,snapshot,house}/**/*.test.ts', 'test/**/*.unit.test.ts']

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
    // Two cores are what a small CI machine has; the services need their share too.
    maxWorkers: 2,
    projects: [
      { extends: true, test: { name: 'unit', include: unitTests } },
      {
        extends: true,
        test: {
          name: 'services',
          include: ['test/**/*.test.ts'],
          exclude: unitTests,
          globalSetup: ['test/support/global-setup.ts'],
          setupFiles: ['test/support/setup-file.ts'],
        },
      },
    ],
  },
})
