import { writeFileSync } from 'node:fs'
import type { Reporter, TestModule } from 'vitest/node'

/**
 * Writes `passed failed` into the file named by TOTALS_FILE. A file that could not be loaded, a hook that failed and
 * an error nobody caught count as a failure each, so that nothing fails without being counted.
 */
export default class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const file = process.env.TOTALS_FILE
    if (file === undefined) return
    let passed = 0
    let failed = unhandledErrors.length
    for (const module of modules) {
      const failedBefore = failed
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') passed++
        if (state === 'failed') failed++
      }
      if (module.state() === 'failed' && failed === failedBefore) failed++
    }
    writeFileSync(file, `${passed} ${failed}\n`)
  }
}
