import { afterAll } from 'vitest'
import { returnEverything } from './services.ts'

// Registered before any hook of the test file, so it runs after all of them.
afterAll(returnEverything)
