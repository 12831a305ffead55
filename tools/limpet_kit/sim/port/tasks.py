"""asyncio on the port's ticks: the desktop's own task queue counts in 62 bits and never wraps.

The interface is the one that asyncio's core uses of `_asyncio` (extmod/modasyncio.c).
"""

from . import clock


def install():
    """Load asyncio on the port's clock, with this queue in the place of the built-in one."""
    from asyncio import core

    Task.core = core
    core.TaskQueue = TaskQueue
    core.Task = Task
    core.new_event_loop()


class TaskQueue:
    """Tasks by the ticks at which they are due; first come, first served among equals."""

    def __init__(self):
        self._tasks = []

    def peek(self):
        """The next task, None when there is none."""
        return self._tasks[0] if self._tasks else None

    def push(self, task, due=None):
        """Queue a task for its time, which is now unless told otherwise."""
        task.data = None
        task.ph_key = clock.ticks_ms() if due is None else due
        tasks = self._tasks
        i = len(tasks)
        while i and clock.ticks_diff(task.ph_key, tasks[i - 1].ph_key) < 0:
            i -= 1
        tasks.insert(i, task)

    def pop(self):
        """Take the next task out."""
        return self._tasks.pop(0)

    def remove(self, task):
        """Take this task out."""
        self._tasks.remove(task)


class Task:
    """A coroutine and what it waits for. `state`: True runs, None detached, a queue of waiters,
    False ended; `data`: what it waits in, or how it ended."""

    core = None

    def __init__(self, coro, globals=None):
        self.coro = coro
        self.data = None
        self.state = True
        self.ph_key = 0

    def __iter__(self):
        if not self.state:
            self.state = False
        elif self.state is True:
            self.state = TaskQueue()
        elif type(self.state) is not TaskQueue:
            raise RuntimeError("can't wait")
        return self

    def __next__(self):
        if not self.state:
            if self.data is None:
                raise StopIteration
            raise self.data
        current = Task.core.cur_task
        self.state.push(current)
        current.data = self

    def done(self):
        """Whether it has ended."""
        return not self.state

    def cancel(self):
        """Have CancelledError raised where it waits; False when it has ended."""
        core = Task.core
        if not self.state:
            return False
        if self is core.cur_task:
            raise RuntimeError("can't cancel self")
        task = self
        while isinstance(task.data, Task):
            task = task.data
        queue = core._task_queue
        if hasattr(task.data, "remove"):
            task.data.remove(task)
            queue.push(task)
        elif clock.ticks_diff(task.ph_key, clock.ticks_ms()) > 0:
            queue.remove(task)
            queue.push(task)
        task.data = core.CancelledError
        return True
