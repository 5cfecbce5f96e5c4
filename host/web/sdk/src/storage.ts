// For storages of your own, such as React Native's.

export type { Entry, Keeper } from "./keeper.ts";
export type { Locks } from "./locks.ts";
export { type KeepOptions, type Storage, keep } from "./shelf.ts";
