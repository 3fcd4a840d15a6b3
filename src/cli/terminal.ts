import { createInterface } from 'node:readline/promises'
import type { Session } from './session.ts'

/** Puts a question to a person and gives what they typed. */
export type Ask = (question: string) => Promise<string>

/** Null: nobody is there to be asked. */
export function terminal(session: Session): Ask | null {
  if (session.json || process.stdin.isTTY !== true) return null
  return async (question) => {
    const prompt = createInterface({ input: process.stdin, output: process.stderr })
    try {
      return await prompt.question(question)
    } finally {
      prompt.close()
    }
  }
}
