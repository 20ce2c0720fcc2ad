/**
 * The only module that opens libc. The comment above each symbol is its C prototype.
 *
 * The functions return what C returns. The other modules of this folder convert that into values
 * and {@linkcode SyscallError}.
 */
import { architecture, checkDeno, UnsupportedPlatformError } from "./platform.ts";

const SYMBOLS = {
  // int *__errno_location(void);
  __errno_location: { parameters: [], result: "pointer" },
  // char *strerror(int errnum);
  strerror: { parameters: ["i32"], result: "pointer" },

  // Processes
  // pid_t fork(void);
  fork: { parameters: [], result: "i32" },
  // void _exit(int status);
  _exit: { parameters: ["i32"], result: "void" },
  // pid_t waitpid(pid_t pid, int *wstatus, int options);
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // pid_t getpid(void);
  getpid: { parameters: [], result: "i32" },
  // pid_t getppid(void);
  getppid: { parameters: [], result: "i32" },
  // long syscall(SYS_gettid); older glibc has no gettid()
  gettid: { name: "syscall", parameters: ["i64"], result: "i64" },
  // pid_t setsid(void);
  setsid: { parameters: [], result: "i32" },
  // int setpgid(pid_t pid, pid_t pgid);
  setpgid: { parameters: ["i32", "i32"], result: "i32" },
  // uid_t getuid(void);
  getuid: { parameters: [], result: "u32" },
  // int setuid(uid_t uid);
  setuid: { parameters: ["u32"], result: "i32" },
  // gid_t getgid(void);
  getgid: { parameters: [], result: "u32" },
  // int setgid(gid_t gid);
  setgid: { parameters: ["u32"], result: "i32" },
  // int getresuid(uid_t *ruid, uid_t *euid, uid_t *suid);
  getresuid: { parameters: ["buffer", "buffer", "buffer"], result: "i32" },
  // int setresuid(uid_t ruid, uid_t euid, uid_t suid);
  setresuid: { parameters: ["u32", "u32", "u32"], result: "i32" },
  // int getresgid(gid_t *rgid, gid_t *egid, gid_t *sgid);
  getresgid: { parameters: ["buffer", "buffer", "buffer"], result: "i32" },
  // int setresgid(gid_t rgid, gid_t egid, gid_t sgid);
  setresgid: { parameters: ["u32", "u32", "u32"], result: "i32" },
  // int setfsuid(uid_t fsuid);
  setfsuid: { parameters: ["u32"], result: "i32" },
  // int setfsgid(gid_t fsgid);
  setfsgid: { parameters: ["u32"], result: "i32" },
  // int getgroups(int size, gid_t list[]);
  getgroups: { parameters: ["i32", "buffer"], result: "i32" },
  // int setgroups(size_t size, const gid_t *list);
  setgroups: { parameters: ["usize", "buffer"], result: "i32" },
  // int initgroups(const char *user, gid_t group);
  initgroups: { parameters: ["buffer", "u32"], result: "i32" },
  // int getpwnam_r(const char *name, struct passwd *pwd, char *buf, size_t buflen,
  //                struct passwd **result);
  getpwnam_r: { parameters: ["buffer", "buffer", "buffer", "usize", "buffer"], result: "i32" },
  // int getpwuid_r(uid_t uid, struct passwd *pwd, char *buf, size_t buflen, struct passwd **result);
  getpwuid_r: { parameters: ["u32", "buffer", "buffer", "usize", "buffer"], result: "i32" },
  // int getgrnam_r(const char *name, struct group *grp, char *buf, size_t buflen,
  //                struct group **result);
  getgrnam_r: { parameters: ["buffer", "buffer", "buffer", "usize", "buffer"], result: "i32" },
  // mode_t umask(mode_t mask);
  umask: { parameters: ["u32"], result: "u32" },
  // int getrlimit(int resource, struct rlimit *rlim);
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  // int setrlimit(int resource, const struct rlimit *rlim);
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  // int prctl(int option, unsigned long arg2, arg3, arg4, arg5);
  prctl: {
    parameters: ["i32", "u64", "u64", "u64", "u64"],
    result: "i32",
  },
  // int sched_setscheduler(pid_t pid, int policy, const struct sched_param *param);
  sched_setscheduler: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  // int execve(const char *path, char *const argv[], char *const envp[]);
  execve: { parameters: ["buffer", "buffer", "buffer"], result: "i32" },
  // extern char **environ;
  environ: { type: "pointer" },
  // char *getenv(const char *name);
  getenv: { parameters: ["buffer"], result: "pointer" },
  // int setenv(const char *name, const char *value, int overwrite);
  setenv: { parameters: ["buffer", "buffer", "i32"], result: "i32" },
  // int unsetenv(const char *name);
  unsetenv: { parameters: ["buffer"], result: "i32" },

  // Signals
  // int kill(pid_t pid, int sig);
  kill: { parameters: ["i32", "i32"], result: "i32" },
  // int clock_gettime(clockid_t clockid, struct timespec *tp);
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // int setitimer(int which, const struct itimerval *new_value, struct itimerval *old_value);
  setitimer: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // unsigned int alarm(unsigned int seconds);
  alarm: { parameters: ["u32"], result: "u32" },
  // int sigaction(int signum, const struct sigaction *act, struct sigaction *oldact);
  sigaction: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int siginterrupt(int sig, int flag);
  siginterrupt: { type: "pointer" },
  // int pthread_sigmask(int how, const sigset_t *set, sigset_t *oldset);
  pthread_sigmask: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // The same, run by a thread of the runtime's blocking pool, for that thread (see
  // forking/block_signals.ts).
  pthread_sigmask_on_pool: {
    name: "pthread_sigmask",
    parameters: ["i32", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  // int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start_routine)(void *),
  //                    void *arg);
  pthread_create: { parameters: ["buffer", "pointer", "pointer", "pointer"], result: "i32" },
  // long syscall(SYS_get_robust_list, int pid, struct robust_list_head **head_ptr, size_t *len_ptr);
  get_robust_list: {
    name: "syscall",
    parameters: ["i64", "i32", "buffer", "buffer"],
    result: "i64",
  },
  // int signalfd(int fd, const sigset_t *mask, int flags);
  signalfd: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // int ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *tmo, const sigset_t *mask);
  // The only call during which a handler may run.
  ppoll: { parameters: ["buffer", "usize", "buffer", "buffer"], result: "i32" },

  // Descriptors
  // int open(const char *path, int flags, mode_t mode);
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  // ssize_t read(int fd, void *buf, size_t count);
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  // The same, run by a thread of the runtime's blocking pool: it parks that thread in a system call
  // (see runtime/pool.ts).
  read_on_pool: {
    name: "read",
    parameters: ["i32", "buffer", "usize"],
    result: "isize",
    nonblocking: true,
  },
  // ssize_t write(int fd, const void *buf, size_t count);
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  // int close(int fd);
  close: { parameters: ["i32"], result: "i32" },
  // int pipe2(int pipefd[2], int flags);
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  // int dup2(int oldfd, int newfd);
  dup2: { parameters: ["i32", "i32"], result: "i32" },
  // int dup3(int oldfd, int newfd, int flags);
  dup3: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int fcntl(int fd, int cmd, long arg);
  fcntl: { parameters: ["i32", "i32", "i64"], result: "i32" },
  // int flock(int fd, int operation);
  flock: { parameters: ["i32", "i32"], result: "i32" },
  // off_t lseek(int fd, off_t offset, int whence);
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  // int ftruncate(int fd, off_t length);
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  // int isatty(int fd);
  isatty: { parameters: ["i32"], result: "i32" },
  // int unlink(const char *path);
  unlink: { parameters: ["buffer"], result: "i32" },
  // int fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags);
  fchownat: { parameters: ["i32", "buffer", "u32", "u32", "i32"], result: "i32" },
  // ssize_t readlink(const char *path, char *buf, size_t bufsiz);
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  // long syscall(SYS_getdents64, int fd, void *dirp, size_t count); older glibc has no getdents64()
  getdents64: {
    name: "syscall",
    parameters: ["i64", "i32", "buffer", "usize"],
    result: "i64",
  },
  // int epoll_create1(int flags);
  epoll_create1: { parameters: ["i32"], result: "i32" },
  // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // int eventfd(unsigned int initval, int flags);
  eventfd: { parameters: ["u32", "i32"], result: "i32" },

  // Sockets
  // int socket(int domain, int type, int protocol);
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int socketpair(int domain, int type, int protocol, int sv[2]);
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // int setsockopt(int fd, int level, int name, const void *value, socklen_t len);
  setsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "u32"],
    result: "i32",
  },
  // int getsockopt(int fd, int level, int name, void *value, socklen_t *len);
  getsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "buffer"],
    result: "i32",
  },
  // int bind(int fd, const struct sockaddr *addr, socklen_t len);
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int listen(int fd, int backlog);
  listen: { parameters: ["i32", "i32"], result: "i32" },
  // int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  // int connect(int fd, const struct sockaddr *addr, socklen_t len);
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // ssize_t recv(int fd, void *buf, size_t len, int flags);
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  // ssize_t send(int fd, const void *buf, size_t len, int flags);
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  // ssize_t sendmsg(int fd, const struct msghdr *msg, int flags);
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  // ssize_t recvmsg(int fd, struct msghdr *msg, int flags);
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  // int shutdown(int fd, int how);
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  // int getsockname(int fd, struct sockaddr *addr, socklen_t *len);
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int getpeername(int fd, struct sockaddr *addr, socklen_t *len);
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res);
  getaddrinfo: {
    parameters: ["buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  // void freeaddrinfo(struct addrinfo *res);
  freeaddrinfo: { parameters: ["pointer"], result: "void" },
  // const char *gai_strerror(int errcode);
  gai_strerror: { parameters: ["i32"], result: "pointer" },

  // Memory
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
  mmap: {
    parameters: ["usize", "usize", "i32", "i32", "i32", "i64"],
    result: "pointer",
  },
  // int memfd_create(const char *name, unsigned int flags);
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  // int madvise(void *addr, size_t length, int advice);
  madvise: { parameters: ["usize", "usize", "i32"], result: "i32" },
  // int mallopt(int param, int value);
  mallopt: { parameters: ["i32", "i32"], result: "i32" },
  // unsigned long getauxval(unsigned long type);
  getauxval: { parameters: ["u64"], result: "u64" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of libc, by their C names. */
export type Libc = Deno.StaticForeignLibraryInterface<typeof SYMBOLS>;

const NAMES = Object.keys(SYMBOLS) as (keyof Libc)[];

// Deno compiles a call for each function that it opens. That takes a third of a millisecond; for
// all functions, as long as the start of Deno itself. A function can also be called by its address,
// which is a few microseconds slower: after this many calls, that has cost as much as compiling.
const TRIAL_CALLS = 200;

let symbols: Libc | undefined;
let errnoCell: Int32Array | undefined;
const compiled = new Set<keyof Libc>();

/**
 * Returns libc, which the first call opens.
 *
 * @throws {UnsupportedPlatformError} If there is no glibc, or Deno is too old.
 * @throws {Deno.errors.NotCapable} Without `--allow-ffi`, or if it is limited to a path.
 */
export function libc(): Libc {
  return symbols ??= open();
}

/**
 * Returns the errno of the call that has just failed. It only reads memory, so that no code of the
 * runtime runs between the call and this.
 */
export function errno(): number {
  return errnoCell?.[0] ?? 0;
}

/**
 * Compiles the calls of functions that have not been called often enough yet. A compiled call
 * allocates no memory, and a forked child inherits it.
 *
 * @param names The functions. The default is all.
 */
export function compile(names: readonly (keyof Libc)[] = NAMES): void {
  if (compiled.size === NAMES.length) return;
  const missing = names.filter((name) => !compiled.has(name));
  Object.assign(libc(), dlopen(Object.fromEntries(missing.map((name) => [name, SYMBOLS[name]]))));
  for (const name of missing) compiled.add(name);
}

function open(): Libc {
  checkDeno();
  architecture();
  const addresses = dlopen(Object.fromEntries(NAMES.map((key) => {
    const symbol = SYMBOLS[key];
    return [key, { name: "name" in symbol ? symbol.name : key, type: "pointer" }];
  })));
  const opened = Object.fromEntries(NAMES.map((name) => {
    const address = addresses[name] as Deno.PointerObject;
    return [name, "type" in SYMBOLS[name] ? address : byAddress(name, address)];
  })) as unknown as Libc;
  // Each thread has its own errno. An instance of this module never changes its thread, and in a
  // forked child, the main thread's errno has the same address.
  const cell = opened.__errno_location();
  if (cell === null) throw new UnsupportedPlatformError("libc does not provide errno");
  errnoCell = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(cell, 4));
  return opened;
}

/** Returns a function that calls by address, until it has been called often. */
function byAddress(name: keyof Libc, address: Deno.PointerObject): unknown {
  let pointer: { call(...args: unknown[]): unknown } | undefined;
  let calls = 0;
  return (...args: unknown[]) => {
    // Both must happen before the call: after it, they might change errno.
    pointer ??= new Deno.UnsafeFnPointer(address as never, SYMBOLS[name] as never);
    if (calls++ === TRIAL_CALLS) compile([name]);
    return pointer.call(...args);
  };
}

function dlopen(symbols: Deno.ForeignLibraryInterface): Record<string, unknown> {
  try {
    return Deno.dlopen("libc.so.6", symbols).symbols;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    // Access to one library does not help: Deno takes the name for a path in the working directory,
    // and calls by address need access to all.
    if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
      throw new Deno.errors.NotCapable(
        "Requires ffi access to all libraries, which neither --allow-ffi=PATH nor an answered " +
          "prompt gives: run again with the --allow-ffi flag alone",
      );
    }
    const detail = error instanceof Error ? error.message : String(error);
    throw new UnsupportedPlatformError(`cannot open glibc: ${detail}`);
  }
}
