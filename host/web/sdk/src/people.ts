// What the client has heard of other people: names, and who is online.

import type { Live, Scope } from "./live.ts";
import type { Profile } from "./protocol.ts";

export interface People {
  /** By username. */
  all: Live<ReadonlyMap<string, Profile>>;
  get(username: string): Profile | undefined;
  take(profile: Partial<Profile> & { username: string }): void;
  remove(username: string): void;
  list(): Profile[];
  forget(): void;
}

/** `changed` is told whose profile is another. */
export function createPeople(scope: Scope, changed: (username: string) => void): People {
  const profiles = new Map<string, Profile>();
  const all = scope.derived<ReadonlyMap<string, Profile>>(() => new Map(profiles));
  return {
    all,
    get: (username) => profiles.get(username),
    take(profile) {
      const old = profiles.get(profile.username);
      // Somebody of whom only the status was heard.
      if (old === undefined && profile.fullname === undefined) return;
      const next = { ...old, ...profile } as Profile;
      if (old !== undefined && JSON.stringify(old) === JSON.stringify(next)) return;
      // The latest ones are at the end.
      profiles.delete(profile.username);
      profiles.set(profile.username, next);
      all.stale();
      changed(profile.username);
    },
    remove(username) {
      if (!profiles.delete(username)) return;
      all.stale();
      changed(username);
    },
    list: () => [...profiles.values()],
    forget() {
      profiles.clear();
      all.stale();
    },
  };
}
