// A thread with a small stack: what runs beside others keeps its tiles there, nothing large. base/threads.h has loops and jobs.
#pragma once
#include <pthread.h>

namespace sotto {

// False where the system gives none. The caller joins.
bool StartThread(void* (*main)(void*), void* argument, pthread_t* thread);

}  // namespace sotto
