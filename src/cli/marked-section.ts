import { SnapflipError } from '../core/errors.ts'

const BEGIN =
  '<!-- snapflip:begin: written by `snapflip init`, which writes it anew up to the end mark; what is outside is yours -->'
const END = '<!-- snapflip:end -->'
const BEGIN_MARK = /^<!-- snapflip:begin\b[^\n]*-->[^\S\n]*$/gm
const END_MARK = /^<!-- snapflip:end -->[^\S\n]*$/gm

/**
 * The text with our section in it: between its marks where there are some, else at the end. Every byte outside the marks stays.
 *
 * @param file named when the marks are damaged.
 * @throws SnapflipError USAGE where it cannot be told what is ours: nothing of the user's is overwritten on a guess.
 */
export function withSection(text: string, section: string, file: string): string {
  const newline = text.includes('\r\n') ? '\r\n' : '\n'
  const ours = [BEGIN, section.trim(), END].join('\n').replaceAll('\n', newline)
  // Of the same length, so that what is found in it is where it is in the text.
  const plain = text.replaceAll('\r\n', ' \n')
  const begins = [...plain.matchAll(BEGIN_MARK)]
  const ends = [...plain.matchAll(END_MARK)]
  const [begin] = begins
  const [end] = ends
  if (begin === undefined && end === undefined) {
    if (text === '') return ours + newline
    return text + (text.endsWith('\n') ? newline : newline + newline) + ours + newline
  }
  if (begins.length !== 1 || ends.length !== 1 || begin === undefined || end === undefined || end.index < begin.index) {
    throw new SnapflipError(
      'USAGE',
      `Expected one snapflip:begin and one snapflip:end mark after it in ${file}, found ${begins.length} and ${ends.length}. ` +
        'Correct the marks, or remove them all to have the section written at the end.',
      { file, begins: begins.length, ends: ends.length },
    )
  }
  return text.slice(0, begin.index) + ours + text.slice(end.index + END.length)
}
