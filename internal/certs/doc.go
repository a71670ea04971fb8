// Package certs holds the trust between KEDA and the scaler: a CA of our own,
// a server leaf for the scaler, a client leaf for KEDA, and the loading of both
// ends without a restart.
//
// It is cut in three:
//
//   - Rules.Plan and Apply: a state machine over the contents of three
//     Secrets. Plan is pure, time is an argument; Apply makes keys.
//   - Keeper: runs on the leader, carries out one step of the plan at a time,
//     one Secret per step, so that a crash between two steps leaves a state
//     that the plan knows how to go on from.
//   - Source: runs on every replica, serves the server leaf and the trusted
//     roots as they are at the time of each handshake.
//
// # Rotation of the CA
//
// KEDA reads our client Secret when a scaler of its is built and then holds on
// to what it read: until the ScaledObject's generation changes, a call fails,
// or it restarts. So old and new must understand each other throughout:
//
//  1. stage: a new CA is made and published beside the old one in every ca.crt;
//  2. after Rules.Overlap it is promoted: it signs from now on. The old CA signs
//     the new one once ("cross"), and this certificate is sent along with every
//     leaf, so that a peer that knows only the old root accepts new leaves too;
//  3. both leaves are made anew;
//  4. after one more life of a leaf, when no leaf of the old CA can be valid any
//     more, the old root is dropped.
package certs
