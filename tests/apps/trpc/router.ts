import { initTRPC } from '@trpc/server';
import { z } from 'zod';
import type { Context } from './context.ts';

interface User {
  id: string;
  name: string;
}

const userList: User[] = [
  {
    id: '1',
    name: 'KATT',
  },
];

const t = initTRPC.context<Context>().create();

export const appRouter = t.router({
  userById: t.procedure.input(z.string()).query((opts) => {
    const { input } = opts; // input is of type string
    return userList.find((u) => u.id === input);
  }),
  userCreate: t.procedure
    .input(z.object({ name: z.string() }))
    .mutation((opts) => {
      const id = Date.now().toString();
      const user: User = { id, ...opts.input };
      userList.push(user);
      return user;
    }),
});

// export type definition of API
export type AppRouter = typeof appRouter;
