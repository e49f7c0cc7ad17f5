// The manual's admin interface, word for word but for the types, and what it gets.
// Standard input: {url, key, token, calls: [[name, ...arguments]]}. Standard output: one JSON value.
import { readFileSync } from 'node:fs'
import { createClient } from '@supabase/supabase-js'

const { url, key, token, calls } = JSON.parse(readFileSync(0, 'utf8'))
const supabase = createClient(url, key, {
  // Not used here; before version 22 Node has no WebSocket to give it.
  realtime: { transport: class {} },
  global: { headers: token ? { Authorization: `Bearer ${token}` } : {} },
})

const manageOpenRouterConfig = {
  // Add new model
  addModel: async (modelConfig) => {
    return await supabase.from('api_models').insert(modelConfig);
  },

  // Update model settings
  updateModel: async (modelId, updates) => {
    return await supabase.from('api_models').update(updates).eq('id', modelId);
  },

  // Monitor usage
  getUsageStats: async (timeframe) => {
    return await supabase.rpc('get_openrouter_usage_stats', { timeframe });
  },

  // Model performance comparison
  compareModelPerformance: async (models) => {
    return await supabase.rpc('compare_openrouter_models', { models });
  }
};

const results = []
for (const [name, ...given] of calls) {
  const { data, error, status } = await manageOpenRouterConfig[name](...given)
  results.push({ data, error, status })
}
console.log(JSON.stringify(results))
process.exit(0)
