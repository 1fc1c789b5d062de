// Makes recorded/vercel.pb: runs the Vercel AI SDK for real against a stub provider.
//
//   npm install ai @ai-sdk/openai @opentelemetry/sdk-trace-node @opentelemetry/exporter-trace-otlp-proto
//   node record_spans.mjs recorded/vercel.pb      (from the folder with node_modules)
import http from "node:http";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const home = createRequire(pathToFileURL(process.cwd() + "/"));
const load = async (name) => import(pathToFileURL(home.resolve(name)).href);
const { NodeTracerProvider, SimpleSpanProcessor } = await load("@opentelemetry/sdk-trace-node");
const { OTLPTraceExporter } = await load("@opentelemetry/exporter-trace-otlp-proto");
const { createOpenAI } = await load("@ai-sdk/openai");
const ai = await load("ai");

const usage = {
  prompt_tokens: 1200, completion_tokens: 80, total_tokens: 1280,
  prompt_tokens_details: { cached_tokens: 1024 }, completion_tokens_details: { reasoning_tokens: 48 },
};
const bodies = [];
let asked = 0;
const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    if (request.url === "/v1/traces") {
      bodies.push(body);
      return response.end();
    }
    const model = "gpt-5-mini-2025-08-07";
    const calls = [{ id: "call_1", type: "function", function: { name: "lookup", arguments: "{}" } }];
    asked += 1;
    if (JSON.parse(body.toString()).stream) {
      const head = { id: "chatcmpl-streamed", object: "chat.completion.chunk", created: 1763800000, model };
      const deltas = [{ role: "assistant", content: "Rain, " }, { content: "again." }];
      const chunks = deltas.map((delta) => ({ ...head, choices: [{ index: 0, delta, finish_reason: null }] }));
      chunks.push({ ...head, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }, { ...head, choices: [], usage });
      response.setHeader("content-type", "text/event-stream");
      return response.end(chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join("") + "data: [DONE]\n\n");
    }
    const first = asked === 1;
    const message = first ? { role: "assistant", content: null, tool_calls: calls } : { role: "assistant", content: "Rain." };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({
      id: `chatcmpl-${asked}`, object: "chat.completion", created: 1763800000, model, usage,
      choices: [{ index: 0, message, finish_reason: first ? "tool_calls" : "stop" }],
    }));
  });
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const base = `http://127.0.0.1:${server.address().port}`;
const provider = new NodeTracerProvider({
  spanProcessors: [new SimpleSpanProcessor(new OTLPTraceExporter({ url: `${base}/v1/traces` }))],
});
provider.register();
const openai = createOpenAI({ baseURL: `${base}/v1`, apiKey: "sk-recorded" });
const telemetry = { isEnabled: true, functionId: "weather", metadata: { sessionId: "talk-1", userId: "ann" } };
const settings = { model: openai.chat("gpt-5-mini"), prompt: "What is the weather in Ghent?", experimental_telemetry: telemetry };
const schema = ai.jsonSchema({ type: "object", properties: {} });
const tools = { lookup: ai.tool({ description: "Look", inputSchema: schema, execute: async () => "rain" }) };
await ai.generateText({ ...settings, tools, stopWhen: ai.stepCountIs(3) });
for await (const part of ai.streamText(settings).textStream) void part;
await provider.forceFlush();
// A request is one repeated field: requests joined are one request.
writeFileSync(process.argv[2], Buffer.concat(bodies));
console.log(bodies.length, "spans");
process.exit(0);
