// SPDX-License-Identifier: Apache-2.0
#include "muster/model/memory.h"

#include <gmock/gmock.h>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/model/export.h"
#include "muster/model/kv_cache.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;
using ::testing::ThrowsMessage;

class MemoryTest : public ::testing::Test {
  protected:
    Model load(DType dtype, const LoadOptions& options = {}) {
        ModelConfig config = testing::tiny_olmoe();
        config.context = 100'000;
        testing::random_checkpoint(config).write(directory_ / "run");
        export_gguf(directory_ / "run", directory_ / "model.gguf", dtype);
        return Model::load(directory_ / "model.gguf", options);
    }
    void file(const std::string& path, const std::string& text) {
        std::filesystem::create_directories((directory_ / path).parent_path());
        write_file(directory_ / path, text);
    }
    TemporaryDirectory directory_;
    ThreadTeam team_{2};
};

TEST_F(MemoryTest, NeedIsWhatIsTaken) {
    MemorySettings s{.context = 1000, .kv = DType::f16, .sequences = 3, .panels = true};
    LoadOptions options;
    options.panels = &team_;
    MemoryNeed before;
    options.foresee = [&](const Model& m) {
        EXPECT_EQ(m.panel_bytes(), 0U);
        before = memory_need(m, s);
        return true;
    };
    const Model model = load(DType::q8_0, options);
    const MemoryNeed need = memory_need(model, s);
    EXPECT_EQ(need.panels, static_cast<int64_t>(model.panel_bytes()));
    EXPECT_EQ(before.panels, need.panels);
    EXPECT_EQ(before.held(), need.held());
    EXPECT_EQ(need.caches, 3 * 3 * 2 * 1000 * 32 * 2);  // sequences, layers, K and V
    EXPECT_GT(need.workspace, 0);
    s.panels = false;
    const MemoryNeed mapped = memory_need(model, s);
    EXPECT_EQ(mapped.panels, 0);
    EXPECT_GT(mapped.mapped, need.mapped);
}

TEST_F(MemoryTest, RefusalNamesNumbersAndWhatToChange) {
    const Model model = load(DType::q8_0);
    const MemorySettings s{.context = 4096, .kv = DType::f16, .panels = true};
    const int64_t need = memory_need(model, s).held();
    EXPECT_NO_THROW(check_memory(model, s, {need, "MemAvailable"}));
    EXPECT_THAT(
        [&] {
            check_memory(model, s, {need - 1, "MemAvailable"});
        },
        ThrowsMessage<Error>(AllOf(HasSubstr("[memory]"), HasSubstr("4096 tokens in f16"),
                                   HasSubstr("by MemAvailable"), HasSubstr("--mmap"),
                                   HasSubstr("--ctx"), HasSubstr("--kv q8_0"))));
    const MemorySettings last{.context = 100, .kv = DType::q8_0};
    EXPECT_THAT(
        [&] {
            check_memory(model, last, {0, "RLIMIT_AS"});
        },
        ThrowsMessage<Error>(HasSubstr("a smaller model")));
}

TEST_F(MemoryTest, ContextIsTheModelsOrWhatFits) {
    const Model model = load(DType::f32);
    MemorySettings s{.kv = DType::f32};
    EXPECT_EQ(default_context(model, s, {}), 100'000);
    s.context = 8192;
    const MemoryNeed need = memory_need(model, s);
    const FreeMemory free{need.held() + need.mapped, "MemAvailable"};
    s.context = 0;
    EXPECT_EQ(default_context(model, s, free), 8192);
    EXPECT_EQ(default_context(model, s, {1, "MemAvailable"}), 256);
}

TEST_F(MemoryTest, ReadsWhatTheSystemSays) {
    const auto free = [&] { return free_memory(directory_.path()); };
    EXPECT_GT(free_memory().bytes, 0);
    EXPECT_LT(free_memory().bytes, INT64_MAX);
    file("proc/meminfo", "MemTotal:  900 kB\nMemAvailable:     500 kB\nMemAvailableX: 1 kB\n");
    EXPECT_EQ(free().bytes, 500 * 1024);
    EXPECT_EQ(free().limit, "MemAvailable");
    file("proc/self/cgroup", "0::/a/b\n");
    file("sys/fs/cgroup/a/b/memory.max", "max\n");
    file("sys/fs/cgroup/a/b/memory.current", "5\n");
    EXPECT_EQ(free().bytes, 500 * 1024);
    file("sys/fs/cgroup/a/memory.max", "300000\n");
    file("sys/fs/cgroup/a/memory.current", "250000\n");
    file("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 20000\nactive_file 10000\n");
    EXPECT_EQ(free().bytes, 300000 - 220000);
    EXPECT_THAT(free().limit, HasSubstr("memory.max"));
    file("proc/self/cgroup", "9:cpu:/x\n4:cpuset,memory:/c\n");
    file("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "100000\n");
    file("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "90000\n");
    file("sys/fs/cgroup/memory/c/memory.stat", "inactive_file 7\ntotal_inactive_file 5000\n");
    EXPECT_EQ(free().bytes, 100000 - 85000);
    EXPECT_THAT(free().limit, HasSubstr("memory.limit_in_bytes"));
}

}  // namespace
}  // namespace muster
