import http from 'k6/http';

export const options = {
  discardResponseBodies: true,
  scenarios: { load: JSON.parse(__ENV.SCENARIO) },
  summaryTrendStats: ['p(90)', 'p(95)', 'p(99)'],
};

export default function () {
  http.get(__ENV.URL);
}
