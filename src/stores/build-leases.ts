import type { Store } from './ports.ts'

/** The ids of leases that builds and copies hold begin so: who asks whether one runs need not read those of all readers. */
export const BUILD_LEASES = 'build:'

/** Whether a build or a copy of the dataset holds a version that it reads. */
export async function isBuilding({ leases }: Pick<Store, 'leases'>): Promise<boolean> {
  return (await leases.list(BUILD_LEASES)).some(({ kind }) => kind === 'build')
}
