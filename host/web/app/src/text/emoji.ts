// Emojis that can be picked and completed, with the names by which people look for them.

const GROUPS: [string, string][] = [
  ["Faces", `😀 grinning,😃 smiley happy,😄 smile,😁 grin,😆 laughing,😅 sweat smile,😂 joy tears laugh,🤣 rofl,🙂 slight smile,🙃 upside down,😉 wink,😊 blush,😇 innocent angel,🥰 hearts love,😍 heart eyes love,🤩 star struck,😘 kiss,😗 kissing,😋 yum,😛 tongue,😜 wink tongue,🤪 zany,🤑 money,🤗 hug,🤭 oops,🤫 shush quiet,🤔 thinking,🤐 zipper,🤨 raised eyebrow,😐 neutral,😑 expressionless,😶 no mouth,😏 smirk,😒 unamused,🙄 eye roll,😬 grimace,😌 relieved,😔 pensive,😪 sleepy,😴 sleeping,😷 mask ill,🤒 thermometer,🤕 bandage,🤢 sick,🤧 sneeze,🥵 hot,🥶 cold,😵 dizzy,🤯 mind blown,🥳 party,😎 cool sunglasses,🤓 nerd,🧐 monocle,😕 confused,😟 worried,🙁 frown,😮 open mouth wow,😯 hushed,😲 astonished,😳 flushed,🥺 pleading,😦 frowning,😨 fearful,😰 anxious sweat,😥 sad relieved,😢 cry,😭 sob,😱 scream,😖 confounded,😞 disappointed,😓 sweat,😩 weary,😫 tired,🥱 yawn,😤 triumph,😡 rage,😠 angry,🤬 cursing,😈 devil,💀 skull,💩 poop,🤡 clown,👻 ghost,👽 alien,🤖 robot`],
  ["People", `👋 wave hello,🤚 raised back,✋ hand,🖖 vulcan,👌 ok,🤌 pinched,✌️ victory peace,🤞 fingers crossed,🤟 love you,🤘 rock,🤙 call me,👈 left,👉 right,👆 up,👇 down,👍 thumbs up yes +1,👎 thumbs down no -1,✊ fist,👊 punch,👏 clap,🙌 raised hands,👐 open hands,🤝 handshake,🙏 pray thanks please,✍️ writing,💪 muscle strong,👀 eyes look,🧠 brain,👶 baby,🧑 person,👩 woman,👨 man,🤦 facepalm,🤷 shrug,🙋 raise hand,🙇 bow,💃 dance,🏃 run,🧘 yoga`],
  ["Hearts and signs", `❤️ heart love,🧡 orange heart,💛 yellow heart,💚 green heart,💙 blue heart,💜 purple heart,🖤 black heart,💔 broken heart,💕 two hearts,✨ sparkles,⭐ star,🌟 glowing star,💫 dizzy star,🔥 fire,💥 boom,💯 hundred,✅ check done,☑️ checkbox,❌ cross no,❓ question,❗ exclamation,⚠️ warning,🚫 forbidden,♻️ recycle,➕ plus,➖ minus,💤 zzz,💬 speech,💭 thought,🔔 bell,🔒 lock,🔑 key,🔗 link,📌 pin,🎵 music`],
  ["Animals and nature", `🐶 dog,🐱 cat,🐭 mouse,🐰 rabbit,🦊 fox,🐻 bear,🐼 panda,🦁 lion,🐮 cow,🐷 pig,🐸 frog,🐵 monkey,🙈 see no evil,🐔 chicken,🐧 penguin,🐦 bird,🦆 duck,🦉 owl,🐴 horse,🦄 unicorn,🐝 bee,🐛 bug,🦋 butterfly,🐌 snail,🐢 turtle,🐍 snake,🐙 octopus,🐟 fish,🐳 whale,🌵 cactus,🌲 tree,🍀 clover luck,🍁 leaf,🌸 blossom,🌹 rose,🌻 sunflower,☀️ sun,⛅ cloud,🌧️ rain,⛈️ storm,❄️ snow,🌈 rainbow,🌊 wave sea,🌙 moon,🌍 earth`],
  ["Food", `🍎 apple,🍌 banana,🍓 strawberry,🍋 lemon,🍉 melon,🥑 avocado,🍅 tomato,🥕 carrot,🍞 bread,🧀 cheese,🍳 egg breakfast,🥓 bacon,🍔 burger,🍟 fries,🍕 pizza,🌮 taco,🥗 salad,🍝 pasta,🍜 noodles,🍣 sushi,🍦 ice cream,🍩 donut,🍪 cookie,🎂 cake birthday,🍫 chocolate,🍿 popcorn,☕ coffee,🍵 tea,🍺 beer,🍻 cheers,🍷 wine,🥂 toast,🍹 cocktail`],
  ["Things", `🎉 tada party,🎊 confetti,🎁 gift,🎈 balloon,🏆 trophy,🥇 gold medal,⚽ football,🏀 basketball,🎾 tennis,🎮 game,🎲 dice,🎸 guitar,🎬 film,📷 camera,💻 computer,📱 phone,⌚ watch,💡 idea bulb,🔦 torch,📖 book,📝 memo note,📅 calendar,📎 paperclip,✂️ scissors,📦 package,✉️ letter mail,📈 chart up,📉 chart down,🔍 search,🔧 wrench,🔨 hammer,⚙️ gear,🧪 test,🚀 rocket ship,✈️ plane,🚗 car,🚲 bike,🚆 train,⛵ boat,🏠 house home,🏖️ beach,⏰ alarm clock,⏳ hourglass wait,💰 money,🛒 cart,🧹 broom`],
];

export interface Emoji {
  char: string;
  name: string;
}

export const groups = GROUPS.map(([title, text]) => ({
  title,
  emojis: text.split(",").map((item): Emoji => {
    const space = item.indexOf(" ");
    return { char: item.slice(0, space), name: item.slice(space + 1) };
  }),
}));

const all = groups.flatMap((group) => group.emojis);

/** Those with a word that begins so; the ones whose first word does come first. */
export function find(text: string, max: number): Emoji[] {
  const wanted = text.toLowerCase().replaceAll("_", " ");
  const found = all.filter(({ name }) => ` ${name}`.includes(` ${wanted}`));
  return found.sort((a, b) => Number(b.name.startsWith(wanted)) - Number(a.name.startsWith(wanted))).slice(0, max);
}

export const nameOf = (char: string) => all.find((emoji) => emoji.char === char)?.name ?? char;
