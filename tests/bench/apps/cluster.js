// Runs a program with node:cluster: cluster.js PROGRAM PROCESSES
import cluster from "node:cluster";

if (cluster.isPrimary) {
  for (let i = 0; i < Number(process.argv[3]); i++) cluster.fork();
} else await import(process.argv[2]);
