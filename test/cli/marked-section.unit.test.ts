import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { withSection } from '../../src/cli/marked-section.ts'

const FILE = 'CLAUDE.md'
const line = fc.string().filter((text) => !text.includes('snapflip:'))

describe('a section between marks', () => {
  test('goes to the end of what is there, and nothing of that changes', () => {
    fc.assert(fc.property(line, line, (text, section) => withSection(text, section, FILE).startsWith(text)))
  })

  test('is written anew in its place: every byte before and after it stays', () => {
    fc.assert(
      fc.property(line, line, line, fc.constantFrom('\n', '\r\n'), (before, after, section, newline) => {
        const first = withSection(before + newline, 'first', FILE)
        const text = first + newline + after
        const again = withSection(text, section, FILE)
        const end = again.lastIndexOf('<!-- snapflip:end -->')
        expect(again.slice(0, before.length + newline.length)).toBe(before + newline)
        expect(again.slice(end + '<!-- snapflip:end -->'.length)).toBe(newline + newline + after)
      }),
    )
  })

  test('the same section again changes no byte, whatever ends the lines', () => {
    for (const newline of ['\n', '\r\n']) {
      const once = withSection(`mine${newline}`, 'a\nb', FILE)
      expect(withSection(once, 'a\nb', FILE)).toBe(once)
      expect(once.replaceAll(newline, '')).not.toMatch(/[\r\n]/)
    }
  })

  test.each([
    ['no end', '<!-- snapflip:begin: … -->\ntext\n'],
    ['no begin', 'text\n<!-- snapflip:end -->\n'],
    ['two', '<!-- snapflip:begin -->\n<!-- snapflip:end -->\n<!-- snapflip:begin -->\n<!-- snapflip:end -->\n'],
    ['the wrong order', '<!-- snapflip:end -->\n<!-- snapflip:begin -->\n'],
  ])('marks with %s are refused, naming the file', (_what, text) => {
    expect(() => withSection(text, 'new', FILE)).toThrow(/one snapflip:begin and one snapflip:end mark.*CLAUDE\.md/)
  })
})
