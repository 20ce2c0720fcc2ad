import { becomeForkable } from "../../mod.ts";
import { LESSONS } from "./lessons/all.ts";
import { Guard } from "./stage/guard.ts";
import { playLesson } from "./stage/play.ts";

becomeForkable({ signals: [] });
const guard = Guard.start();
const [name, json] = Deno.args;
const lesson = await LESSONS.find((entry) => entry.name === name)!.load();
const holds = await playLesson(lesson, {
  guard,
  emit: (event) => {
    if (json) console.log(JSON.stringify(event));
  },
});
Deno.exit(holds ? 0 : 1);
