// A pool of threads that wait for jobs.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

// Threads are reused, because a new thread may start on the core of its parent and share it for a whole pass. The pool
// is never destroyed, because its threads outlive main().
class Pool {
  public:
    // Calls work(context, item, thread) for every item, and rethrows the first exception of any thread. The caller
    // works as thread 0.
    void run(int64_t items, int64_t threads, void (*work)(void*, int64_t, int64_t), void* context) {
        Job job{work, context, items};
        job.places = std::min(threads, items) - 1;
        const bool shared = job.places > 0;
        if (shared) {
            std::lock_guard<std::mutex> lock(mutex_);
            add_threads(job.places);
            jobs_.push_back(&job);
            ++pushed_;
            wake_.notify_all();
        }
        job.do_items(0);
        if (shared) {
            std::unique_lock<std::mutex> lock(mutex_);
            jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
            done_.wait(lock, [&] { return job.running == 0; });
        }
        if (job.error) std::rethrow_exception(job.error);
    }

  private:
    struct Job {
        void (*work)(void*, int64_t, int64_t);
        void* context;
        int64_t items;
        std::atomic<int64_t> next{0};
        int64_t places = 0, joined = 0, running = 0;  // guarded by the mutex of the pool

        std::atomic<bool> failed{false};
        std::exception_ptr error;  // written by the first thread that fails, read after all have stopped

        // An exception ends the job. It must neither end a thread of the pool, nor unwind the caller, who owns the job,
        // while other threads use it.
        void do_items(int64_t thread) noexcept {
            try {
                for (int64_t item = next++; item < items && !failed; item = next++) work(context, item, thread);
            } catch (...) {
                if (!failed.exchange(true)) error = std::current_exception();
            }
        }
    };

    void add_threads(int64_t wanted) {
        for (; idle_ < wanted; ++idle_) {
            try {
                std::thread(&Pool::wait_for_jobs, this).detach();
            } catch (const std::system_error&) {
                return;  // no more threads available: the running ones do the work
            }
        }
    }

    void wait_for_jobs() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Job* job = nullptr;
            wake_.wait(lock, [&] {
                for (Job* waiting : jobs_)
                    if (!job && waiting->joined < waiting->places) job = waiting;
                return job != nullptr;
            });
            const int64_t thread = ++job->joined;
            ++job->running, --idle_;
            lock.unlock();
            job->do_items(thread);
            lock.lock();
            ++idle_;
            if (--job->running == 0) done_.notify_all();
            stay_awake(lock);
        }
    }

    // The backward pass follows the forward pass soon. A thread that sleeps between them may wake up on the core of the
    // caller, so it polls for 2 ms first.
    void stay_awake(std::unique_lock<std::mutex>& lock) {
        const uint64_t seen = pushed_;
        lock.unlock();
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
        while (pushed_ == seen && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        lock.lock();
    }

    std::atomic<uint64_t> pushed_{0};
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<Job*> jobs_;
    int64_t idle_ = 0;
};
