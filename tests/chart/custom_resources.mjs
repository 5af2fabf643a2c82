// Validates custom resources, a JSON array on standard input, against the schemas of their operators.
//
//     node tests/chart/custom_resources.mjs DIRECTORY < RESOURCES      where DIRECTORY holds node_modules
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';

const models = `${resolve(process.argv[2])}/node_modules/@kubernetes-models`;
const operator = await import(`${models}/prometheus-operator/monitoring.coreos.com/v1/index.js`);
const gateways = await import(`${models}/gateway-api/gateway.networking.k8s.io/v1/index.mjs`);
const kinds = {
  'monitoring.coreos.com/v1': operator,
  'gateway.networking.k8s.io/v1': gateways,
};

for (const resource of JSON.parse(await text(process.stdin))) {
  const Kind = kinds[resource.apiVersion]?.[resource.kind];
  if (!Kind) throw new Error(`there is no schema for ${resource.apiVersion} ${resource.kind}`);
  new Kind(resource).validate();
}
