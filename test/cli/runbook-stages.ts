import type { Pointer } from '../../schemas/pointer.ts'
import type { ErrorCode } from '../../src/core/errors.ts'
import { freePort } from '../../src/local/free-port.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { uniqueName } from '../support/services.ts'
import type { Desk } from './runbook-desk.ts'

export interface Step {
  /** What happens before the command. */
  before?: () => Promise<unknown>
  /** With what it ends, where that is not 0. */
  ends?: ErrorCode
  /** What whoever typed it reads. */
  says?: RegExp | readonly RegExp[]
}

export interface Stage {
  /** Which store the page's dataset is in. */
  in?: 'redis' | 's3'
  begin?: () => Promise<unknown>
  /** By command: its only time on the page, or the first, the second … */
  steps?: Record<string, Step | readonly Step[]>
  end?: () => Promise<unknown>
}

/** By page and incident: how it comes about, and what the page's commands say of it. */
export function stagesOf(desk: Desk): Record<string, Record<string, Stage>> {
  const { sql, here } = desk
  const nowhere = async () => `127.0.0.1:${await freePort()}`
  const flipped = /: FLIPPED /
  const forward = /went from .* forward to/
  const sound = /is sound/
  const equal = /\bequal\b/

  /** Few rows are left, and a gate refuses the version without the others. */
  const lose = async () => {
    await sql('create table kept as select * from products; delete from products where id > 700')
    here.newer = desk.tagOf(await desk.run('snapflip refresh shop'))
  }
  const restore = () =>
    sql(
      'insert into products select * from kept on conflict do nothing; drop table kept; update products set price_cents = price_cents + 1 where id = 3',
    )

  /** What readers are on now is the version that somebody has just left, and was good after all. */
  const leave = async () => {
    const { answer } = await desk.done('snapflip status shop')
    here.newer =
      (answer as unknown as { json: { datasets: [{ pointer: Pointer }] } }).json.datasets[0].pointer.active?.tag ?? ''
    await desk.done('snapflip rollback shop --reason "looks bad"')
  }

  /** A refresh that a gate's webhook keeps waiting. */
  const hang = async () => {
    desk.decide('wait')
    await sql('update products set price_cents = price_cents + 1 where id <= 10')
    await desk.done('snapflip refresh shop --no-wait')
    await waitUntil('the refresh to be judged', async () =>
      /refresh.*gates/.test((await desk.run('snapflip status shop')).text) ? true : undefined,
    )
  }

  /** What a superuser can do, who means to. */
  const tamper = (statement: string) =>
    sql(`begin; set local session_replication_role = replica;
      alter table snapflip.history disable trigger all;
      ${statement};
      alter table snapflip.history enable always trigger append_only;
      alter table snapflip.history enable always trigger append_only_truncate;
      commit`)

  return {
    'runbooks/bake-failed.md': {
      'a version that nobody watches': {
        steps: {
          // The command before went there.
          'snapflip rollback shop --to v20260518-01 --reason "the version before is unhealthy too"': {
            ends: 'CONFLICT',
          },
        },
      },
    },
    'runbooks/approval-waiting.md': {
      // Who may answer is looked at in test/cli/approval.test.ts.
      'nothing waits': {
        steps: {
          'snapflip approve shop v20260518-02 --reason "prices checked with the supplier"': {
            ends: 'APPROVAL_REFUSED',
          },
          'snapflip reject shop v20260518-02 --reason "the file was cut off"': { ends: 'APPROVAL_REFUSED' },
        },
      },
    },
    'runbooks/bad-version.md': {
      'bad prices': {
        steps: {
          // The command before went there.
          'snapflip rollback shop --to v20260518-01 --reason "last good one"': { ends: 'CONFLICT' },
          'snapflip resume shop --release v20260518-02 --reason "prices were right"': { before: leave },
          'snapflip flip shop v20260518-02 --reason "prices were right"': { says: forward },
        },
      },
    },
    'runbooks/changelog-growing.md': {
      'a hold that nobody lifted': {
        begin: async () => {
          await desk.done('snapflip hold shop --reason "an import"')
          await sql('update products set price_cents = price_cents + 1 where id <= 900')
        },
        steps: {
          'snapflip status shop': { says: /hold .*an import/ },
          'snapflip refresh shop --reason "catch up"': { says: flipped },
          'snapflip detach shop': { says: /capture taken off public.products/ },
          // It is used or it is not: here it is both.
          'snapflip refresh shop --full --reason "after the bulk load"': {
            before: () => desk.done('snapflip apply shop --yes'),
          },
          'snapflip apply shop --yes': { before: () => desk.done('snapflip detach shop') },
        },
      },
    },
    'runbooks/drift-found.md': {
      'a change that capture did not see': {
        begin: () =>
          sql(`update products set price_cents = -1 where id = 42;
            delete from snapflip.changelog where seq = (select max(seq) from snapflip.changelog)`),
        steps: {
          'snapflip verify shop --rebuild': [{ ends: 'VERIFY_FAILED', says: /different/ }, { says: equal }],
          'snapflip explain shop products 42': { says: /full build|change/ },
        },
      },
    },
    'runbooks/failed-gate.md': {
      'an import that lost most rows': {
        begin: lose,
        steps: {
          'snapflip show shop v20260518-02': { says: /reject +changeVolume/ },
          'snapflip refresh shop --reason "import corrected"': { before: restore, says: flipped },
          'snapflip waive shop v20260518-02 changeVolume --until 2126-01-01 --reason "the catalogue was cut on purpose"':
            {
              before: lose,
            },
          'snapflip refresh shop': { says: flipped },
          'snapflip plan shop': {
            before: () =>
              desk.define((definition) => {
                const gates = definition.datasets[here.shop]?.gates
                if (gates !== undefined) gates.changeVolume = { deleted: { percent: 80, atLeast: 10 } }
                return definition
              }),
            says: /gates/,
          },
          'snapflip rollback shop --reason "should not have been waived"': { says: /is back from/ },
        },
        end: async () => {
          await restore()
          await desk.define()
          await desk.done('snapflip apply shop --yes')
        },
      },
    },
    'runbooks/history-chain-broken.md': {
      'an entry that was edited': {
        begin: () =>
          tamper(`create table edited as select * from snapflip.history order by seq desc limit 1;
            update snapflip.history set actor = 'nobody' where seq = (select seq from edited)`),
        steps: {
          'snapflip history verify': [
            { ends: 'HISTORY_BROKEN', says: /entry \d+ .*it was edited/ },
            { ends: 'HISTORY_BROKEN', says: /entry \d+ .*it was edited/ },
          ],
          'snapflip incident export --since 2020-01-01 --out incident.json': { says: /the chain does not verify/ },
          // Nothing was restored here.
          [`snapflip history accept shop --anchor 812:${'a1'.repeat(32)} --reason "restored from Sunday's backup"`]: {
            ends: 'USAGE',
            says: /Expected one of the anchors/,
          },
          'snapflip verify shop --rebuild': { says: equal },
          'snapflip doctor --grants': { says: /grant .*snapflip/ },
        },
        end: () =>
          tamper(`update snapflip.history set actor = (select actor from edited) where seq = (select seq from edited);
            drop table edited`),
      },
    },
    'runbooks/lineage-broken.md': {
      'a failover that lost the last transactions': {
        begin: () => sql('delete from snapflip.watermarks where at = (select max(at) from snapflip.watermarks)'),
        steps: {
          'snapflip plan shop': [{ says: /full .*LINEAGE_BROKEN/ }, { says: /incremental/ }],
          'snapflip refresh shop --reason "after the failover"': { says: flipped },
          'snapflip verify shop --rebuild': { says: equal },
          'snapflip get shop products 42 --version v20260518-02': { says: /sku42/ },
        },
      },
    },
    'runbooks/postgres-down.md': {
      'nothing answers where it was': {
        steps: {
          'snapflip status shop': [
            {
              before: async () => {
                const database = `postgres://shop@${await nowhere()}/shop`
                await desk.define((definition) => ({ ...definition, database }))
              },
              ends: 'POSTGRES_UNREACHABLE',
              // What the store itself says.
              says: /active +v/,
            },
            {},
          ],
          'snapflip doctor': { ends: 'POSTGRES_UNREACHABLE' },
          'snapflip rollback shop --direct --reason "bad prices, database down"': {
            says: /PostgreSQL does not answer/,
          },
          'snapflip resume shop --keep-quarantine --reason "database is back"': { before: () => desk.define() },
          'snapflip history shop --kind rollback --limit 5': { says: /rollback\.absorbed/ },
          'snapflip verify shop --rebuild': { says: equal },
          'snapflip resume shop --release v20260518-02 --reason "prices were right"': { before: leave },
          'snapflip flip shop v20260518-02 --reason "prices were right"': { says: forward },
        },
      },
    },
    'runbooks/rollback-in-an-incident.md': {
      'bad prices, and then no Temporal': {
        begin: async () => {
          await sql('update products set price_cents = -2 where id = 42')
          here.older = here.newer
          here.newer = desk.tagOf(await desk.done('snapflip refresh shop'))
        },
        steps: {
          'snapflip get shop products 42': [{ says: /-2/ }, {}],
          'snapflip rollback shop --reason "prices are off"': { says: /is back from/ },
          'snapflip rollback shop --direct --to v20260518-01 --reason "still off, Temporal is down"': {
            before: async () => {
              await desk.done('snapflip resume shop --release v20260518-02 --reason "in spite of it"')
              await desk.done('snapflip flip shop v20260518-02 --reason "in spite of it"')
              const address = await nowhere()
              await desk.define((definition) => ({ ...definition, temporal: { ...definition.temporal, address } }))
            },
            says: /is whole/,
          },
          'snapflip pin shop v20260518-01 --until 2126-05-20 --reason "month-end report"': {
            before: () => desk.define(),
          },
          'snapflip refresh shop': {
            before: () => sql('update products set price_cents = 420 where id = 42'),
          },
          'snapflip resume shop --release v20260518-02 --reason "it was the reader"': {
            before: leave,
          },
          'snapflip flip shop v20260518-02 --reason "it was the reader"': { says: forward },
          // The one before it ended.
          'snapflip drill shop --end': { ends: 'CONFLICT' },
        },
      },
    },
    'runbooks/s3-unavailable.md': {
      'it hangs up': {
        in: 's3',
        begin: async () => {
          desk.s3.intercept = () => Promise.reject(new Error('gone'))
        },
        steps: {
          'snapflip doctor': { ends: 'STORE_UNREACHABLE', says: /NOT OK/ },
          'snapflip status shop': [{ ends: 'STORE_UNREACHABLE' }, {}],
          'snapflip refresh shop --reason "S3 is back"': {
            before: async () => {
              desk.s3.intercept = (_exchange, forward) => forward()
            },
          },
          'snapflip verify shop': { says: sound },
        },
      },
    },
    'runbooks/store-rebound.md': {
      'it came back empty': {
        begin: () => desk.restartRedis({ empty: true }),
        steps: {
          'snapflip status shop': [{ ends: 'STORE_REBOUND' }, {}],
          'snapflip plan shop': { says: /LOST: .* has lost/ },
          'snapflip refresh shop --reason "Redis restarted"': { says: flipped },
          'snapflip history shop --kind alert --limit 5 --json': [
            {},
            { says: /store_rebound.*came back without a pointer/ },
          ],
          'snapflip rollback shop --reason "prices are off"': { ends: 'UNKNOWN_VERSION' },
          'snapflip verify shop': { says: sound },
        },
      },
      'it came back as another server': {
        begin: () => desk.restartRedis({ empty: false }),
        steps: {
          'snapflip history shop --kind alert --limit 5 --json': [
            {},
            { says: /store_rebound.*restarted or failed over/ },
          ],
          'snapflip verify shop': { says: sound },
        },
      },
    },
    'runbooks/stuck-refresh.md': {
      'a webhook that says wait': {
        begin: hang,
        steps: {
          'snapflip status shop': [{ says: /refresh +gates/ }, { says: /refresh +CANCELLED/ }],
          'snapflip rollback shop --reason "cannot wait for the refresh"': { says: /is back from/ },
          'snapflip cancel shop': { says: /was cancelled/ },
          'snapflip refresh shop --reason "in the place of the one that hung"': {
            before: async () => desk.decide('proceed'),
            says: flipped,
          },
        },
        end: async () => desk.decide('proceed'),
      },
    },
    'runbooks/worker-backlog.md': {
      'no worker runs': {
        begin: async () => {
          await desk.stopWorker()
          // A worker that went away counts as there for another minute, unless nobody ever polled.
          await desk.define((definition) => ({
            ...definition,
            temporal: { ...definition.temporal, taskQueue: `test-${uniqueName()}` },
          }))
          await sql('update products set price_cents = price_cents + 1 where id <= 10')
          await desk.done('snapflip refresh shop --no-wait')
        },
        steps: {
          'snapflip status': [
            { says: /No worker polls/ },
            {
              before: () =>
                waitUntil('the refresh that waited', async () =>
                  /refresh +FLIPPED/.test((await desk.run('snapflip status shop')).text) ? true : undefined,
                ),
            },
          ],
          'snapflip doctor': { ends: 'TEMPORAL_UNREACHABLE', says: /NOT OK/ },
          'snapflip worker --work-dir /var/tmp/snapflip': { says: /worker polls/ },
        },
        end: async () => {
          await desk.stopWorker()
          await desk.define()
          await desk.startWorker()
        },
      },
    },
  }
}
