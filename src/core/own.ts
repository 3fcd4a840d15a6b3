/** What a record has under a name from outside: never what every object has (`constructor`, `toString`). */
export function own<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined
}
