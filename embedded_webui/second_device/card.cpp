// A second device, a stand-in for a card: RAM that PyTorch takes for another device (type `hpu`, a key that no wheel uses).
// Operations are computed by copying to the CPU and back. Freed memory is overwritten, new memory is filled with a
// pattern, so that reading what was never copied, or what was freed, shows.
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<int64_t> taken{0}, peak{0}, handed_out{0}, refused{0}, most{INT64_MAX};
thread_local int current = 0;

struct Block {
  void* memory;
  size_t size;
};

void let_go(void* context) {
  auto* block = static_cast<Block*>(context);
  if (block->memory) {
    std::memset(block->memory, 0xA5, block->size);
    std::free(block->memory);
  }
  taken -= static_cast<int64_t>(block->size);
  delete block;
}

struct CardAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    const auto wanted = static_cast<int64_t>(size);
    if (wanted && taken + wanted > most) {
      ++refused;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "card: out of memory");
    }
    void* memory = nullptr;
    if (size) {
      memory = std::aligned_alloc(512, (size + 511) / 512 * 512);
      if (!memory) throw std::bad_alloc();
      std::memset(memory, 0x5A, size);
      ++handed_out;
    }
    taken += wanted;
    if (taken > peak) peak.store(taken);
    return {memory, new Block{memory, size}, &let_go, c10::Device(c10::DeviceType::HPU, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &let_go; }
  void copy_data(void* to, const void* from, std::size_t size) const override { std::memcpy(to, from, size); }
};

CardAllocator allocator;
REGISTER_ALLOCATOR(c10::DeviceType::HPU, &allocator);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = c10::DeviceType::HPU;
  c10::DeviceType type() const override { return static_type; }
  c10::Device exchangeDevice(c10::Device device) const override {
    c10::Device before(static_type, current);
    current = device.index();
    return before;
  }
  c10::Device getDevice() const override { return c10::Device(static_type, current); }
  void setDevice(c10::Device device) const override { current = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, stream.device());
  }
  c10::DeviceIndex deviceCount() const noexcept override { return 2; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(HPU, Guard);

at::Tensor seen_from_the_cpu(const at::Tensor& tensor) {
  auto* start = tensor.numel() ? tensor.mutable_data_ptr() : nullptr;
  const auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
  return at::from_blob(start, tensor.sizes(), tensor.strides(), options);
}

at::Tensor empty_memory_format(
    c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::OptionalDeviceGuard guard(device);
  const c10::DispatchKeySet keys(c10::DispatchKey::HPU);
  return at::detail::empty_generic(size, &allocator, keys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(
    c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  c10::OptionalDeviceGuard guard(device);
  const c10::DispatchKeySet keys(c10::DispatchKey::HPU);
  return at::detail::empty_strided_generic(size, stride, &allocator, keys, c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  const auto source = from.is_cpu() ? from : seen_from_the_cpu(from);
  auto target = to.is_cpu() ? to : seen_from_the_cpu(to);
  if (target.numel()) target.copy_(source);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar_dense(const at::Tensor& tensor) { return seen_from_the_cpu(tensor).item(); }

at::Tensor as_strided(
    const at::Tensor& tensor, c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(tensor, size, stride, offset);
}

at::Tensor view(const at::Tensor& tensor, c10::IntArrayRef size) { return at::native::view(tensor, size); }

at::Tensor view_dtype(const at::Tensor& tensor, at::ScalarType dtype) {
  return at::native::view_dtype(tensor, dtype);
}

at::Tensor reshape_alias(const at::Tensor& tensor, c10::IntArrayRef size, c10::IntArrayRef stride) {
  return at::native::_reshape_alias(tensor, size, stride);
}

const at::Tensor& resize(
    const at::Tensor& tensor, c10::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(tensor, size, format);
}

at::Tensor& set_source(
    at::Tensor& tensor, at::Storage source, int64_t offset, c10::IntArrayRef size, c10::IntArrayRef stride) {
  return at::native::set_storage_cpu_(tensor, source, offset, size, stride);
}

// What ordinary kernels of the CPU do not stand in for.
at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
    c10::IntArrayRef output_padding, int64_t groups) {
  std::optional<at::Tensor> here;
  if (bias && bias->defined()) here = seen_from_the_cpu(*bias);
  const auto computed = at::convolution(
      seen_from_the_cpu(input), seen_from_the_cpu(weight), here, stride, padding, dilation, transposed,
      output_padding, groups);
  return computed.to(input.device());
}

void by_the_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  at::native::cpu_fallback(operation, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, HPU, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>()); }

TORCH_LIBRARY_IMPL(aten, HPU, m) {
  m.impl("empty.memory_format", empty_memory_format);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar_dense);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("view.dtype", view_dtype);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("resize_", resize);
  m.impl("convolution_overrideable", convolution);
  m.impl("set_.source_Storage_storage_offset", set_source);
}

extern "C" {
int64_t card_used() { return taken; }
int64_t card_peak() { return peak; }
int64_t card_allocations() { return handed_out; }
int64_t card_refusals() { return refused; }
void card_start_counting() {
  peak.store(taken);
  handed_out = 0;
}
void card_limit(int64_t size) { most = size; }
}
