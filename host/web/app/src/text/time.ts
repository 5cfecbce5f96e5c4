// Times as people say them. The server's times are seconds.

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });

const date = (seconds: number) => new Date(seconds * 1000);
const midnight = (of: Date) => new Date(of.getFullYear(), of.getMonth(), of.getDate()).getTime();

/** Whole days between the day of this time and today: 0 is today, 1 yesterday. */
function daysAgo(seconds: number): number {
  return Math.round((midnight(new Date()) - midnight(date(seconds))) / 86_400_000);
}

export const time = (seconds: number) => clock.format(date(seconds));
export const dateOnly = (seconds: number) => longDay.format(date(seconds));
export const dateAndTime = (seconds: number) => whole.format(date(seconds));
export const iso = (seconds: number) => date(seconds).toISOString();
/** A key that all times of one day share. */
export const dayOf = (seconds: number) => midnight(date(seconds));

/** For a line between the messages of two days. */
export function day(seconds: number): string {
  const days = daysAgo(seconds);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days > 1 && days < 7 ? weekday.format(date(seconds)) : longDay.format(date(seconds));
}

/** For the list of conversations, where there is little room. */
export function brief(seconds: number): string {
  const days = daysAgo(seconds);
  if (days <= 0) return time(seconds);
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(date(seconds)) : shortDay.format(date(seconds));
}

/** "today at 14:03". */
export function moment(seconds: number): string {
  const days = daysAgo(seconds);
  const said = days <= 0 ? "today" : days === 1 ? "yesterday" : days < 7 ? weekday.format(date(seconds)) : shortDay.format(date(seconds));
  return `${said} at ${time(seconds)}`;
}

/** "3 minutes", for waits. */
export function seconds(milliseconds: number): string {
  const count = Math.max(1, Math.ceil(milliseconds / 1000));
  return count === 1 ? "1 second" : `${count} seconds`;
}
