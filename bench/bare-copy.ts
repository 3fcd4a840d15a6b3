import { to as copyTo } from 'pg-copy-streams'
import { resolveSource } from '../src/changelog/definition.ts'
import { scanSelect } from '../src/changelog/scan.ts'
import { inPinned } from '../src/changelog/session.ts'
import { timed } from './report.ts'
import { INDEX, type World } from './world.ts'

/** The build's own SELECT as a binary COPY that nobody looks at: no build from the table can be faster. Returns ms. */
export async function bareCopy(world: World): Promise<number> {
  const client = await world.connect()
  try {
    const [[dataset, definition]] = Object.entries(world.config.datasets) as [
      [string, (typeof world.config.datasets)[string]],
    ]
    const source = await resolveSource(client, dataset, INDEX, definition.indexes[INDEX] as never)
    return await timed(() =>
      inPinned(client, 'repeatable read', 'read only', [], async () => {
        const stream = client.query(copyTo(`copy (${scanSelect(source, null)}) to stdout (format binary)`))
        stream.on('data', () => undefined)
        await new Promise((resolve, reject) => stream.once('end', resolve).once('error', reject))
      }),
    )
  } finally {
    await client.end()
  }
}
