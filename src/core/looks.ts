/** How often counters are judged in one watch. */
export const LOOKS = 20

/**
 * Which look is due, 1 to LOOKS; 0 before the first. They are due at equal parts of the time, whoever looks: a worker that takes over goes on
 * with the next one.
 */
export function lookDue({ elapsedMs, forMs }: { elapsedMs: number; forMs: number }): number {
  return Math.min(LOOKS, Math.max(0, Math.floor((elapsedMs * LOOKS) / forMs)))
}

/**
 * The part of alpha that look number `look` may spend. Who looks often finds something by chance, so all looks share one alpha, by the Pocock-type
 * spending function of Lan and DeMets (Biometrika 70, 1983): α(t) = α ln(1 + (e − 1) t). Each look is given its own increment, which by the union
 * bound holds however the looks depend on each other, and however many of them are left out.
 */
export function alphaOf(look: number, alpha: number): number {
  const spent = (n: number) => alpha * Math.log1p((Math.E - 1) * (n / LOOKS))
  return spent(look) - spent(look - 1)
}
