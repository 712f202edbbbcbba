// The traffic of the reference files: one or more of every kind of answer, and dropped arrivals.
import http from 'k6/http';
import { check } from 'k6';

const base = __ENV.BASE_URL;
const secure = __ENV.SECURE_URL;

export const options = {
  insecureSkipTLSVerify: true,
  scenarios: {
    quotes: { executor: 'constant-arrival-rate', rate: 4, timeUnit: '1s', duration: '1s', preAllocatedVUs: 2, maxVUs: 2, exec: 'quotes' },
    stalled: { executor: 'constant-arrival-rate', rate: 10, timeUnit: '1s', duration: '1s', preAllocatedVUs: 1, maxVUs: 1, exec: 'stalled' },
    faults: { executor: 'shared-iterations', iterations: 1, vus: 1, exec: 'faults' },
  },
  thresholds: {
    http_req_duration: ['p(95)<500', { threshold: 'avg<200', abortOnFail: true, delayAbortEval: '10s' }, { threshold: 'max<60000', abortOnFail: true }],
    'http_req_duration{name:GET /quotes}': ['p(99)<100'],
    'http_req_duration{name:GET /never}': ['p(99)<100'],
    http_req_failed: ['rate<0.01'],
    checks: ['rate>0.99'],
    http_reqs: ['count>5'],
    iterations: ['count>5'],
    data_received: ['count>10'],
    dropped_iterations: ['count<1'],
  },
};

function named(name) {
  return { tags: { name } };
}

export function quotes() {
  const quotes = http.get(`${base}/quotes?symbol=ECOPETROL`, named('GET /quotes'));
  check(quotes, { 'status is 200': (r) => r.status === 200 });
  http.post(`${base}/orders`, '{}', named('POST /orders'));
}

export function stalled() {
  http.get(`${base}/slow`, named('GET /slow'));
}

export function faults() {
  const missing = http.get(`${base}/missing`, named('GET /missing'));
  check(missing, { found: (r) => r.status === 200 });
  http.get(`${base}/broken`, named('GET /broken'));
  http.get(`${secure}/quotes`, named('GET /secure'));
  http.get('http://127.0.0.1:1/', named('GET /refused'));
  http.get('http://no-such-host.invalid/', named('GET /nowhere'));
  http.get(`${base}/reset`, named('GET /reset'));
  http.get(`${base}/slow`, { timeout: '100ms', tags: { name: 'GET /timeout' } });
}

export function handleSummary(data) {
  return { 'handle-summary.json': JSON.stringify(data, null, 2) };
}
