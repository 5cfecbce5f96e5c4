// The login on this device, and the account behind it.

import { chat } from "./chat";
import { forgetDrafts, ownDrafts } from "./room/drafts";
import { replace, to } from "./route";

export interface Session {
  id: string | number;
  last_seen: number;
  user_agent: string;
  current: boolean;
}

export async function register(account: { username: string; password: string; fullname: string }): Promise<void> {
  await chat.register(account);
}

export async function logIn(credentials: { username: string; password: string; remember: boolean }): Promise<void> {
  await chat.login(credentials);
  ownDrafts(credentials.username);
  if (location.hash === to.register) replace(to.home);
}

export async function logOut(): Promise<void> {
  await chat.logout();
  forgetDrafts();
  replace(to.home);
}

export const changePassword = (old: string, next: string): Promise<void> => chat.changePassword(old, next);
export const sessions = (): Promise<readonly Session[]> => chat.sessions();
export const endSession = (id: Session["id"]): Promise<void> => chat.endSession(id);

export async function exportAccount(): Promise<void> {
  const answer = await chat.exportData();
  const url = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = "chat-export.json";
  link.click();
  URL.revokeObjectURL(url);
}

export async function deleteAccount(password: string): Promise<void> {
  await chat.deleteAccount(password);
  forgetDrafts();
  replace(to.home);
}
