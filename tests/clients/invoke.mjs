// Calls functions as a web page does, and prints what supabase-js made of the answers.
// Standard input: {url, key, token, calls: [{name, options}]}. Standard output: one JSON value.
import { readFileSync } from 'node:fs'
import { createClient, FunctionsHttpError } from '@supabase/supabase-js'

const { url, key, token, calls } = JSON.parse(readFileSync(0, 'utf8'))
const sent = new Set()

const supabase = createClient(url, key, {
  // Not used here; before version 22 Node has no WebSocket to give it.
  realtime: { transport: class {} },
  global: {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    fetch: (input, init) => {
      for (const name of new Headers(init.headers).keys()) sent.add(name)
      return fetch(input, init)
    },
  },
})

async function events(response) {
  const text = await new Response(response.body).text()
  return text
    .split('\n\n')
    .filter((block) => block.startsWith('event: '))
    .map((block) => {
      const [name, data] = block.split('\n')
      return { event: name.slice('event: '.length), data: JSON.parse(data.slice('data: '.length)) }
    })
}

const results = []
for (const { name, options } of calls) {
  const { data, error } = await supabase.functions.invoke(name, options)
  if (error instanceof FunctionsHttpError) {
    results.push({ status: error.context.status, error: await error.context.json() })
  } else if (error) {
    results.push({ failure: `${error.name}: ${error.message}` })
  } else {
    results.push({ data: data instanceof Response ? await events(data) : data })
  }
}

// What a browser asks before it lets a page do the same.
const preflight = await fetch(`${url}/functions/v1/casual-chat`, {
  method: 'OPTIONS',
  headers: {
    Origin: 'https://ourvidz.com',
    'Access-Control-Request-Method': 'POST',
    'Access-Control-Request-Headers': [...sent].sort().join(','),
  },
})
const allowed = Object.fromEntries(preflight.headers)
console.log(JSON.stringify({ results, sent: [...sent].sort(), preflight: { status: preflight.status, allowed } }))
process.exit(0)
