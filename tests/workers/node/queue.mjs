// The application's side of a queue. One command a line on standard input, one answer a line on
// standard output, both JSON:
//   {"add": [{"name": …, "data": …, "opts": …}, …]}  answers the ids
//   {"feed": [{"name": …, "data": …, "opts": …}, …], "every": ms}
//                                                    adds them one by one, over and over
//   {"fed": true}                                    adds no more; answers the ids of those it added
//   {"counts": true}                                 answers getJobCounts() in every state
//   {"work": {"concurrency": n}}                     starts a worker that does nothing but answer
//   {"worked": true}                                 answers [{id, name, data}, …] of what it did
//   {"metrics": "completed"}                         answers getMetrics(…).meta.count
// Arguments: the queue's name and its prefix. REDIS_URL says where; an authority of one's own is told
// as Node has it, in NODE_EXTRA_CA_CERTS.
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';

const [name, prefix] = process.argv.slice(2);
const url = new URL(process.env.REDIS_URL);
const connection = {
  host: url.hostname,
  port: Number(url.port),
  username: url.username || undefined,
  password: decodeURIComponent(url.password) || undefined,
  maxRetriesPerRequest: null,
  ...(url.protocol === 'rediss:' ? { tls: {} } : {}),
};
const STATES = [
  'waiting', 'active', 'delayed', 'prioritized', 'waiting-children', 'paused', 'completed', 'failed',
];
// Without a listener, an error of the connection is printed anew with every try.
const complain = (error) => process.stderr.write(`${error.message}\n`.slice(0, 500));
const queue = new Queue(name, { connection, prefix });
queue.on('error', complain);
const worked = [];
let worker;
let feeding = false;
let fed;

async function feed(jobs, every) {
  const ids = [];
  feeding = true;
  for (let next = 0; feeding; next = (next + 1) % jobs.length) {
    const { name: kind, data, opts } = jobs[next];
    ids.push((await queue.add(kind, data, opts)).id);
    await setTimeout(every);
  }
  return ids;
}

async function answer(command) {
  if (command.add) return (await queue.addBulk(command.add)).map((job) => job.id);
  if (command.feed) {
    fed = feed(command.feed, command.every);
    return true;
  }
  if (command.fed) {
    feeding = false;
    return fed;
  }
  if (command.counts) return queue.getJobCounts(...STATES);
  if (command.metrics) return (await queue.getMetrics(command.metrics)).meta.count;
  if (command.worked) return worked;
  if (command.work) {
    const done = async (job) => {
      worked.push({ id: job.id, name: job.name, data: job.data });
      return { by: 'node' };
    };
    worker = new Worker(name, done, { connection, prefix, ...command.work });
    worker.on('error', complain);
    await worker.waitUntilReady();
    return true;
  }
  throw new Error(`unknown command: ${JSON.stringify(command)}`);
}

await queue.waitUntilReady();
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
await worker?.close();
await queue.close();
