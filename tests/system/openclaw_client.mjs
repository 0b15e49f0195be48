// Calls methods as OpenClaw's own client does, and prints what came of each as a line of JSON.
// Arguments: the client's module, the gateway's address, a token, and the calls as JSON: [[method, params], ...].
const [module, url, token, calls] = process.argv.slice(2);
const { GatewayClient } = await import(module);
const told = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const client = new GatewayClient({
  url, token, clientName: "cli", mode: "cli", clientVersion: "1",
  onEvent: (event) => told({ event: event.event, payload: event.payload }),
  onConnectError: (error) => { told({ refused: error.message }); process.exit(1); },
  onHelloOk: async (hello) => {
    told({ hello: hello.protocol, methods: hello.features.methods });
    for (const [method, params] of JSON.parse(calls)) {
      try {
        told({ method, result: await client.request(method, params) });
      } catch (error) {
        told({ method, error: error.message });
      }
    }
    client.stop();
    process.exit(0);
  },
});
client.start();
