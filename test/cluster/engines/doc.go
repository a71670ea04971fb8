// Package engines runs fleets of real vLLM engines on the control plane: engines on
// standby, what becomes of requests when one is told to end, and the course of a fleet
// beside what the simulator says of the same engine, requests and cold start.
package engines
