// A stand-in for an accelerator: memory of the host, kernels of the CPU, and counts of what a device would be asked for.
//
// PyTorch keeps the device type PrivateUse1 for backends of others. Every operation on its tensors that is not registered
// below comes to `launch`, which counts it and lets the CPU compute it. Views and allocations are no launches.

#include <ATen/EmptyTensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {

constexpr auto kStandIn = c10::DeviceType::PrivateUse1;

// --- counts ------------------------------------------------------------------------------------------------------

struct Counts {
  int64_t launches = 0, bytes = 0, host_reads = 0, blocking_copies = 0, copies = 0;
  std::map<std::string, std::pair<int64_t, int64_t>> by_name;  // launches and bytes
};

std::mutex lock;  // the backward has a thread of its own
Counts counts;
int64_t allocated = 0, peak = 0;
thread_local bool within = false;  // in an operation that is counted already

// Bytes of distinct elements: an expanded tensor is read once.
int64_t size_of(const at::Tensor& tensor) {
  int64_t elements = 1;
  for (int64_t i = 0; i < tensor.dim(); i++)
    if (tensor.stride(i) != 0 || tensor.size(i) == 0) elements *= tensor.size(i);
  return elements * static_cast<int64_t>(tensor.element_size());
}

void count_launch(const std::string& name, int64_t bytes) {
  std::lock_guard<std::mutex> guard(lock);
  counts.launches += 1;
  counts.bytes += bytes;
  auto& of_name = counts.by_name[name];
  of_name.first += 1;
  of_name.second += bytes;
}

void count_host_read() {
  std::lock_guard<std::mutex> guard(lock);
  counts.host_reads += 1;
}

void count_copy(bool waits) {
  std::lock_guard<std::mutex> guard(lock);
  counts.copies += 1;
  counts.blocking_copies += waits;
}

struct Within {
  Within() : before(within) { within = true; }
  ~Within() { within = before; }
  bool before;
};

// --- memory ------------------------------------------------------------------------------------------------------

struct Block {
  void* data;
  int64_t bytes;
};

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  {
    std::lock_guard<std::mutex> guard(lock);
    allocated -= block->bytes;
  }
  free(block->data);
  delete block;
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = nullptr;
    if (bytes && posix_memalign(&data, 64, bytes)) TORCH_CHECK(false, "stand-in: out of memory");
    {
      std::lock_guard<std::mutex> guard(lock);
      allocated += static_cast<int64_t>(bytes);
      peak = std::max(peak, allocated);
    }
    return {data, new Block{data, static_cast<int64_t>(bytes)}, &release, c10::Device(kStandIn, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};

Allocator allocator;
REGISTER_ALLOCATOR(kStandIn, &allocator);

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

// The same memory as a tensor of the host.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.is_cpu() || !tensor.defined()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

at::Tensor to_device(const at::Tensor& tensor) {
  Within guard;
  return tensor.defined() ? tensor.to(c10::Device(kStandIn, 0)) : tensor;
}

// --- one device, one stream, events that do nothing ---------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::Device one() const { return c10::Device(kStandIn, 0); }
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, one()); }
  c10::DeviceType type() const override { return kStandIn; }
  c10::Device exchangeDevice(c10::Device) const override { return one(); }
  c10::Device getDevice() const override { return one(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isAvailable() const { return true; }
  bool isBuilt() const { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const { return 1; }
  c10::DeviceIndex getCurrentDevice() const { return 0; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto data = allocator.allocate(bytes);
    if (storage.data()) memcpy(data.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.set_data_ptr_noswap(std::move(data));
    storage.set_nbytes(bytes);
  }
};

// --- operations ---------------------------------------------------------------------------------------------------

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (!within) {
    if (from.device() == to.device()) count_launch("aten::copy_", size_of(from) + size_of(to));
    else count_copy(!non_blocking);
  }
  on_host(to).copy_(on_host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

// Accelerators copy a list of tensors of one dtype in one launch, and any other list one by one.
void foreach_copy(at::TensorList to, at::TensorList from, bool non_blocking) {
  bool alike = true;
  for (const at::TensorList& list : {to, from})
    for (const at::Tensor& tensor : list)
      alike = alike && tensor.device().type() == kStandIn && tensor.scalar_type() == to[0].scalar_type();
  int64_t bytes = 0;
  for (size_t i = 0; i < to.size(); i++) {
    std::optional<Within> guard;
    if (alike) guard.emplace();
    to[i].copy_(from[i], non_blocking);
    bytes += size_of(from[i]) + size_of(to[i]);
  }
  if (alike && !within) count_launch("aten::_foreach_copy_", bytes);
}

at::Scalar local_scalar(const at::Tensor& tensor) {
  if (!within) count_host_read();
  return on_host(tensor).item();
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                       c10::IntArrayRef output_padding, int64_t groups) {
  auto result = to_device(at::convolution(on_host(input), on_host(weight), bias ? on_host(*bias) : at::Tensor(), stride,
                                          padding, dilation, transposed, output_padding, groups));
  count_launch("aten::convolution", size_of(input) + size_of(weight) + size_of(result));
  return result;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight, c10::IntArrayRef stride,
    c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed, c10::IntArrayRef output_padding,
    int64_t groups, std::array<bool, 3> needed) {
  auto [a, b, c] = at::convolution_backward(on_host(grad), on_host(input), on_host(weight), std::nullopt, stride,
                                            padding, dilation, transposed, output_padding, groups, needed);
  const at::Tensor read[] = {weight, input, grad}, written[] = {a, b, c};
  for (int i = 0; i < 3; i++)
    if (needed[i])
      count_launch("aten::convolution_backward", size_of(grad) + (i < 2 ? size_of(read[i]) : 0) + size_of(written[i]));
  return {to_device(a), to_device(b), to_device(c)};
}

void visit(const c10::IValue& value, const std::function<void(const at::Tensor&)>& see) {
  if (value.isTensor() && value.toTensor().defined()) {
    see(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorList()) see(tensor);
  } else if (value.isList()) {
    for (const c10::IValue& each : value.toListRef()) visit(each, see);
  }
}

// Operations that touch as many elements of their first tensor as there are indices, and the position of these.
const std::map<std::string, size_t> kByIndex = {
    {"aten::gather", 2}, {"aten::scatter", 2}, {"aten::scatter_add", 2}, {"aten::nll_loss_forward", 1},
    {"aten::nll_loss2d_forward", 1}, {"aten::index_select", 2}};

// Counts an operation and lets the CPU compute it.
void launch(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto name = schema.name();
  static const std::set<std::string> only_write = {"aten::fill_", "aten::zero_", "aten::uniform_", "aten::normal_"};
  int64_t bytes = 0;
  const auto arguments = torch::jit::last(*stack, schema.arguments().size());
  const auto by_index = kByIndex.find(name.back() == '_' ? name.substr(0, name.size() - 1) : name);
  for (size_t i = 0; i < arguments.size(); i++) {
    const auto& argument = schema.arguments()[i];
    const auto* alias = argument.alias_info();
    const bool writes = alias && alias->isWrite();
    const bool reads = !writes || !(argument.is_out() || only_write.count(name));
    visit(arguments[i], [&](const at::Tensor& tensor) {
      TORCH_CHECK(tensor.device().type() == kStandIn || (tensor.dim() == 0 && arguments[i].isTensor()), name,
                  ": expected all tensors on the device, found one of shape ", tensor.sizes(), " on ", tensor.device(),
                  " as ", argument.name());
      if (tensor.is_cpu()) return;  // a number of the host is an argument of the kernel
      auto size = size_of(tensor);
      if (by_index != kByIndex.end() && tensor.is_same(arguments[0].toTensor()))  // also as the result
        size = std::min<int64_t>(size, arguments[by_index->second].toTensor().numel() * tensor.element_size());
      bytes += size * (static_cast<int>(reads) + static_cast<int>(writes));
    });
  }
  {
    Within guard;
    at::native::cpu_fallback(op, stack);
  }
  const auto results = torch::jit::last(*stack, schema.returns().size());
  bool tensors = results.empty();
  for (size_t i = 0; i < results.size(); i++) {
    const bool fresh = schema.returns()[i].alias_info() == nullptr;
    visit(results[i], [&](const at::Tensor& tensor) { bytes += fresh ? size_of(tensor) : 0; });
    tensors = tensors || results[i].isTensor() || results[i].isList();
  }
  if (within) return;
  count_launch(name, bytes);
  if (!tensors || op.hasTag(at::Tag::dynamic_output_shape) || op.hasTag(at::Tag::data_dependent_output))
    count_host_read();
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar);
  m.impl("_foreach_copy_", &foreach_copy);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("resize_", &at::native::resize_);
  m.impl("set_.source_Tensor", &at::native::set_tensor_);
  m.impl("set_.source_Storage", &at::native::set_);
  m.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&launch>()); }

pybind11::dict read_counts() {
  std::lock_guard<std::mutex> guard(lock);
  pybind11::dict result, by_name;
  for (const auto& [name, of_name] : counts.by_name)
    by_name[pybind11::str(name)] = pybind11::make_tuple(of_name.first, of_name.second);
  result["launches"] = counts.launches;
  result["bytes"] = counts.bytes;
  result["host_reads"] = counts.host_reads;
  result["blocking_copies"] = counts.blocking_copies;
  result["copies"] = counts.copies;
  result["peak"] = peak;
  result["by_name"] = by_name;
  return result;
}

void reset_counts() {
  std::lock_guard<std::mutex> guard(lock);
  counts = Counts();
  peak = allocated;
}

int64_t allocated_now() {
  std::lock_guard<std::mutex> guard(lock);
  return allocated;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  m.def("read", &read_counts);
  m.def("reset", &reset_counts);
  m.def("allocated", &allocated_now);
}
