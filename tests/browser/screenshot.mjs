// Takes the picture that README begins with: node tests/browser/screenshot.mjs. It needs the program, built, and the
// Debian package fonts-noto-color-emoji.

import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { PROGRAM, said, World } from "./world.mjs";

const PICTURE = fileURLToPath(new URL("../../deploy/page.png", import.meta.url));
const BYTES_MAX = 200_000;
const PASSWORD = "demo";

const world = await World.begin({}, (database) => execFileSync(PROGRAM, ["demo"], { env: { DBPATH: database }, stdio: "ignore" }));
const [alice, bob, carol] = await Promise.all([1, 2, 3].map(() => world.window({ viewport: { width: 1200, height: 760 } })));
for (const [page, name] of [[bob, "bob"], [carol, "carol"], [alice, "alice"]]) await world.logIn(page, name, PASSWORD);
await alice.getByRole("link", { name: /Trip to the lake/ }).click();
await said(alice, "You are the best").waitFor();
await alice.mouse.move(0, 0);
await alice.evaluate(() => document.activeElement.blur());
await alice.screenshot({ path: PICTURE });
await world.end();
const { size } = statSync(PICTURE);
if (size > BYTES_MAX) throw new Error(`${PICTURE} has ${size} bytes: expected at most ${BYTES_MAX}`);
